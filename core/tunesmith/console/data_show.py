"""`tunesmith data show`: rows as they are loaded, or as training sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.text import Text

from tunesmith.console.opened import AsJson, RecipePath, Sets, StageName, context_of, plan_of, stage_of
from tunesmith.console.out import data_console, next_steps, note, print_json, safe
from tunesmith.console.paint import clean
from tunesmith.console.progress import reporter
from tunesmith.console.watch import Way
from tunesmith.errors import DataError, UsageError
from tunesmith.ledger import Entry, Ledger
from tunesmith.records import Dataset, Records
from tunesmith.shown import Shown, Token

SHOWN = 3  # rows, when none is named
OPEN, CLOSE = "⟦", "⟧"  # around what is trained, where there is no colour


@dataclass(frozen=True)
class Masked:
    """Some rows token by token.

    Args:
        shown: what each row becomes, by name; nothing for a lost one.
        fates: what is lost of them, and why.
    """

    shown: Mapping[str, Sequence[Shown]]
    fates: Sequence[Entry]

    def of(self, row: str) -> tuple[Sequence[Shown], list[str]]:
        """A row's sequences, and what became of it as sentences."""
        told = [
            f"{end.fate}: {end.reason}" + (f" ({end.detail})" if end.detail else "")
            for end in self.fates
            if end.row == row
        ]
        return self.shown.get(row, ()), told


def show(
    ctx: typer.Context,
    recipe: RecipePath,
    row: Annotated[
        str | None, typer.Option("--row", metavar="N", help="Which row: its number from 1, or its name.")
    ] = None,
    mask: Annotated[bool, typer.Option("--mask", help="Show the tokens, and mark those that are trained.")] = False,
    part: Annotated[
        Literal["train", "validation"], typer.Option("--part", help="Rows to train on, or those held out.")
    ] = "train",
    sets: Sets = None,
    stage: StageName = None,
    as_json: AsJson = False,
) -> None:
    """Print rows as they are loaded, lost ones with the reason; with --mask as training sees them, token by token."""
    from tunesmith.stage import read_data
    from tunesmith.tokenized import show as masked

    plan, registry = plan_of(ctx.obj, recipe, sets)
    chosen = stage_of(plan, stage)
    way = Way(row or "")
    with reporter() as talk:
        context = context_of(plan, talk).with_(trusted_code=registry.trusted_code, max_lost_rows=1.0)
        data = read_data(chosen, context, way if row else None)
        lost = [entry for entry in context.ledger.of("dropped") if entry.row == row]
        gone = (way.source is not None or bool(lost)) and row not in {*data.train.ids, *data.validation.ids}
        if not gone:
            records = _pick(data, part, row, context.ledger)
            found = Masked(*masked(plan, chosen, data, records, context)) if mask else None
    if gone:
        _show_lost(way, context.ledger, as_json)
        return
    if as_json:
        print_json(_plain(records, found, way))
        return
    console = data_console()
    for position, (name, content) in enumerate(records):
        console.rule(safe(name, "dim"), align="left", style="dim")
        if found is None:
            _draw_row(console, content)
        else:
            _draw_masked(console, content, *found.of(name))
        for event in records.history[position] if records.history else ():
            console.print(safe(f"{event.step}: {event.fate}: {event.why}", "yellow"))
    if way.source is not None and way.stops:
        console.rule(safe("as read", "dim"), align="left", style="dim")
        _draw_row(console, way.source)
    console.rule(style="dim")
    for line in context.ledger.examples("dropped") if row is None else ():
        console.print(safe(f"lost {line}", "yellow"))
    next_steps(f"tunesmith run {recipe}" if mask else f"tunesmith data show {recipe} --mask")


def _pick(data: Dataset, part: str, row: str | None, ledger: Ledger) -> Records:
    records = data.train if part == "train" else data.validation
    if not len(records):
        raise DataError(
            f"there are no {part} rows",
            details=ledger.examples(),
            fix="Set `validation = 0.1` (or a file) in [data]." if part == "validation" else "Mend the rows.",
        )
    if row is None:
        return records.take(range(min(SHOWN, len(records))))
    for other in (records, data.validation, data.train):
        if row in other.ids:
            return other.take([list(other.ids).index(row)])
    if not row.isdigit() or not 1 <= int(row) <= len(records):
        raise UsageError(
            f"there is no row {row!r} among the {len(records)} {part} rows",
            fix=f"Give a number from 1 to {len(records)}, or a name such as {records.ids[0]}.",
        )
    return records.take([int(row) - 1])


# --- output -----------------------------------------------------------------------------------
def _plain(records: Records, found: Masked | None, way: Way) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [{"id": name, "row": dict(content)} for name, content in records]
    for position, row in enumerate(rows):
        row["history"] = [event._asdict() for event in (records.history[position] if records.history else ())]
        row["read"] = dict(way.source) if row["id"] == way.name and way.source is not None else None
        if found is not None:
            shown, row["fate"] = found.of(row["id"])
            row["tokens"] = [_described(token, part) for part in shown for token in part.tokens]
            row["supervised"] = sum(part.supervised for part in shown)
            row["label"] = next((part.label for part in shown if part.label), None)
    return rows


def _described(token: Token, part: Shown) -> dict[str, Any]:
    """A token as JSON; what is as usual is left out."""
    return {
        "text": token.text,
        "supervised": token.weight > 0,
        **({"weight": token.weight} if token.weight not in (0, 1) else {}),
        **({"label": token.label} if token.label else {}),
        **({"sequence": part.title} if part.title else {}),
    }


def _show_lost(way: Way, ledger: Ledger, as_json: bool) -> None:
    """A row that is not used: as it came, where it came that far, what each step did to it, and why it went."""
    events = [{"step": step, "fate": fate, "why": why} for step, fate, why, _ in way.stops]
    told = {step for step, *_ in way.stops}
    ends = [entry for entry in ledger.of("dropped") if entry.row == way.name and entry.step not in told]
    events += [{"step": "", "fate": "dropped", "why": f"{end.reason} {end.detail}".strip()} for end in ends]
    read = None if way.source is None else dict(way.source)
    if as_json:
        last = dict(way.stops[-1][3]) if way.stops else read
        print_json([{"id": way.name, "row": last, "history": events, "read": read}])
        return
    console = data_console()
    console.rule(safe(f"{way.name} (not used)", "dim"), align="left", style="dim")
    _draw_row(console, read or {})
    for event in events:
        console.print(safe(f"{event['step'] or 'data'}: {event['fate']}: {event['why']}", "yellow"))
    console.rule(style="dim")


def _draw_row(console: Console, content: Mapping[str, Any]) -> None:
    for key, value in content.items():
        if isinstance(value, list) and value and all(isinstance(item, dict) and "role" in item for item in value):
            if key != "messages":
                console.print(safe(f"{key}:", "cyan"))
            for message in value:
                _draw_message(console, message)
        else:
            console.print(Text.assemble((f"{clean(str(key))}: ", "cyan"), safe(value)))


def _draw_message(console: Console, message: Mapping[str, Any]) -> None:
    """Who says what, and below it whatever else the message holds."""
    console.print(Text.assemble((f"{clean(str(message['role']))}: ", "cyan"), safe(message.get("content", ""))))
    for key, value in message.items():
        if key not in ("role", "content"):
            console.print(Text.assemble((f"  {clean(str(key))}: ", "cyan"), safe(value)))


def _draw_masked(console: Console, content: Any, shown: Sequence[Shown], told: Sequence[str]) -> None:
    """A row's sequences, each with its tokens; a lost row as it is loaded."""
    if not shown:
        _draw_row(console, content)
    for part in shown:
        if part.title:
            console.print(safe(f"{part.title}:", "cyan"))
        _draw_tokens(console, part)
    for sentence in told:
        console.print(safe(sentence, "yellow"))


def _draw_tokens(console: Console, part: Shown) -> None:
    coloured = console.is_terminal and not console.no_color
    line = Text()
    # each token with a label stands for itself, others together with those that count as much
    for (weight, label, _), run in groupby(
        enumerate(part.tokens), key=lambda item: (item[1].weight, item[1].label, item[0] if item[1].label else None)
    ):
        text = clean("".join(token.text for _, token in run))
        style = "dim" if not weight else "bold green" if weight == 1 else "bold yellow"
        line.append(text if coloured or not weight else f"{OPEN}{text}{CLOSE}", style=style)
        if weight not in (0, 1):
            line.append(f"x{weight:g}", style="yellow")
        if label:
            line.append(f"/{clean(label)}", style="cyan")
    console.print(line)
    count, total = part.supervised, len(part.tokens)
    if part.label:
        note(f"{total} tokens are read; trained is the label {part.label!r}")
    else:
        share = f" ({count / total:.0%})" if total else ""
        note(f"{count} of {total} tokens are trained{share}")
