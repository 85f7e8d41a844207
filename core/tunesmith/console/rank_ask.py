"""Asking a person for the order of answers, and showing who won."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from tunesmith.console.out import note, safe
from tunesmith.ranking.book import Book
from tunesmith.ranking.judgments import Judgments
from tunesmith.ranking.order import Choice, choices, example, read_order
from tunesmith.ranking.prompts import Question
from tunesmith.ranking.tally import Score, Tally
from tunesmith.turns import in_words

KEYS = "s skips, u takes the last one back, q ends"


def ask_all(book: Book, judgments: Judgments) -> None:
    """Ask for every order that is not there yet, until the person ends it or the input does."""
    console = Console(file=sys.stderr, highlight=False, markup=False, emoji=False)
    waiting = book.to_judge
    if book.alike:
        note(f"{len(book.alike)} of {len(book.asked)} prompts got the same answer from all: ties without asking")
    if any(judgments.of(question.row) is None for question in waiting):
        note(f"which is better? {KEYS}; each answer is kept at once")
    while question := next((one for one in waiting if judgments.of(one.row) is None), None):
        shown = choices(question, book.seed)
        _show(console, question, shown, f"{waiting.index(question) + 1} of {len(waiting)}")
        said = _answer(len(shown))
        if said == "q":
            return
        if said == "u":
            note("taken back" if judgments.undo() else "there is nothing to take back")
        else:
            judgments.add(question, shown, None if said == "s" else read_order(said, len(shown)), book.seed)


def _show(console: Console, question: Question, shown: Sequence[Choice], heading: str) -> None:
    console.print()
    console.print(Rule(safe(heading, "bold"), align="left", style="dim"))
    console.print(Padding(safe(in_words(question.prompt)), (0, 0, 1, 1)))
    grid = Table.grid(padding=(0, 1))
    grid.add_column(style="bold cyan", justify="right", no_wrap=True)
    grid.add_column(overflow="fold")
    for number, choice in enumerate(shown, 1):
        text = choice.text.strip()
        grid.add_row(str(number), safe(text) if text else safe("(nothing)", "dim"))
        grid.add_row("", "")
    console.print(grid)


def _answer(count: int) -> str:
    """`s`, `u`, `q`, or an order that can be read; asks again for anything else."""
    while True:
        print(f"{example(count)}: ", end="", file=sys.stderr, flush=True)
        line = _line()
        if line is None:
            print(file=sys.stderr)
            return "q"
        said = line.strip().lower()
        if said in ("s", "u", "q"):
            return said
        try:
            read_order(said, count)
        except ValueError as error:
            note(f"{error}. Write {example(count)}; {KEYS}." if said else f"Write {example(count)}; {KEYS}.")
            continue
        return said


def _line() -> str | None:
    """What the person writes; None at the end of the input."""
    line = sys.stdin.readline()
    if not line:
        return None
    if not sys.stdin.isatty():
        print(file=sys.stderr)
    return line


def show(found: Tally, console: Console) -> None:
    """Print who won."""
    console.print(_table(found.scores))
    if len(found.scores) > 2:
        console.print(_pairs(found))
    told = f"{found.judged} of {found.prompts} prompts judged"
    told += "".join(
        f", {count} {what}" for count, what in ((found.skipped, "skipped"), (found.alike, "alike")) if count
    )
    console.print(safe(f"{told}; in brackets: the 95 % interval", "dim"))


def _table(scores: Sequence[Score]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), collapse_padding=True, pad_edge=False)
    table.add_column("model", style="bold", overflow="fold")
    for head in ("wins", "ties", "losses"):
        table.add_column(head, justify="right")
    table.add_column("win rate")
    strengths = any(score.elo is not None for score in scores)
    if strengths:
        table.add_column("Elo")
    for score in scores:
        rate = _interval(score.rate, score.low, score.high, 2)
        elo = [_interval(score.elo, score.elo_low, score.elo_high, 0, "+")] if strengths else []
        table.add_row(safe(score.name), *map(str, (score.wins, score.ties, score.losses)), rate, *elo)
    return table


def _interval(value: float | None, low: float | None, high: float | None, digits: int, sign: str = "") -> Text:
    if value is None or low is None or high is None:
        return Text("")
    text = Text(f"{value:{sign}.{digits}f}")
    return text.append(f" [{low:{sign}.{digits}f}, {high:{sign}.{digits}f}]", style="dim")


def _pairs(found: Tally) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), collapse_padding=True, pad_edge=False)
    table.add_column("pair", overflow="fold")
    for head in ("wins", "ties", "losses"):
        table.add_column(head, justify="right")
    for pair in found.pairs:
        counts = (str(pair[kind]) for kind in ("wins", "ties", "losses"))
        table.add_row(safe(f"{pair['one']} against {pair['two']}"), *counts)
    return table
