"""What a run came to: measures before and after, samples, seconds, rows."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tunesmith.artifact import read_card
from tunesmith.console.out import data_console, next_steps, number, safe, seconds, size
from tunesmith.paired import unmoved
from tunesmith.verdict import in_words

SAMPLES = 5
LINES, LETTERS = 10, 480  # of a source or an answer that is shown

Measures = Mapping[str, Mapping[str, Any]]


def show_run(folder: Path, stages: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the results of a run and name the commands that come next."""
    console = data_console()
    for name, stage in stages.items():
        if len(stages) > 1:
            console.rule(safe(f"stage {name}", "bold"), align="left", style="dim")
        if stage.get("reused"):
            console.print(safe(f"unchanged; its artifact is that of {stage['reused']}"))
            continue
        _stage(console, stage)
    console.print(safe(f"run folder: {folder}"), soft_wrap=True)
    run = shlex.quote(str(folder))
    evaluated = any(stage.get("after", {}).get("measures") for stage in stages.values())
    next_steps(
        *([f"tunesmith chat {run}"] if _answers(stages) else []),
        *([f"tunesmith evaluate {run}"] if evaluated else []),
        "tunesmith runs",
    )


def _answers(stages: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether the model of the last stage can answer; one with another head scores."""
    return read_card(Path([*stages.values()][-1]["artifact"]))["line"]["head"] == "causal-lm"


def _stage(console: Console, stage: Mapping[str, Any]) -> None:
    before, after = stage.get("before", {}), stage.get("after", {})
    if after.get("measures"):
        moved = stage.get("verdict", [])
        console.print(measures_table({"before": before.get("measures", {}), "after": after["measures"]}))
        for heading, text in in_words(moved):
            console.print(_labelled(heading, text))
    show_samples(console, before.get("samples", []), after.get("samples", []))
    for label, text in (
        ("training", _training(stage.get("training", {}))),
        ("memory", _memory(stage.get("memory", {}))),
        ("seconds", " · ".join(f"{name} {seconds(value)}" for name, value in stage.get("seconds", {}).items())),
        ("rows", ledger_line(stage.get("ledger", {}))),
        ("facts", _facts(stage.get("facts", {}))),
        ("exports", ", ".join(stage.get("exports", []))),
    ):
        if text:
            console.print(_labelled(label, text))


def measures_table(columns: Mapping[str, Measures]) -> Table:
    """One row a measure, one column a measurement; the last is compared with the first.

    Args:
        columns: heading -> measures by name. A measurement that lacks a measure leaves its cell empty.
    """
    compared = list(columns.values())
    first, last = compared[0], compared[-1]
    counts = sorted({str(measure.get("n") or "?") for measure in last.values()})
    caption = "in brackets: the 95 % interval" + (f", over {counts[0]} rows" if len(counts) == 1 else "")
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), collapse_padding=True, pad_edge=False)
    table.caption, table.caption_justify, table.caption_style = caption, "left", "dim"
    table.add_column("measure", style="bold", overflow="fold")
    for heading in columns:
        table.add_column(heading)
    table.add_column("change", justify="right", no_wrap=True)
    if len(counts) > 1:
        table.add_column("rows", justify="right", no_wrap=True, style="dim")
    narrow = len(compared) > 2  # then only the last one shows its interval
    for name, measure in last.items():
        cells = [_cell(found.get(name), last=found is last, narrow=narrow) for found in compared]
        unit = f" ({measure['unit']})" if measure.get("unit") else ""
        change = Text("") if first is last else _change(first.get(name), measure)
        rows = [str(measure.get("n") or "?")] if len(counts) > 1 else []
        table.add_row(safe(f"{name}{unit}"), *cells, change, *rows)
    return table


def _cell(measure: Mapping[str, Any] | None, *, last: bool, narrow: bool) -> Text:
    if measure is None:
        return Text("")
    text = Text(number(measure["value"]), style="bold" if last else "")
    if (last or not narrow) and measure.get("low") is not None and measure.get("high") is not None:
        text.append(f" [{number(measure['low'], 3)}, {number(measure['high'], 3)}]", style="not bold dim")
    return text


def _change(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> Text:
    if before is None or not isinstance(before.get("value"), (int, float)):
        return Text("")
    if unmoved(before, after):
        return Text("none", style="dim")
    difference = after["value"] - before["value"]
    relative = f"{difference / abs(before['value']):+.0%}" if before["value"] else f"{difference:+.3g}"
    good = (difference > 0) == (after.get("better") == "higher")
    return Text(f"{relative} {'better' if good else 'worse'}", style="green" if good else "red")


def show_samples(console: Console, before: Sequence[Mapping[str, str]], after: Sequence[Mapping[str, str]]) -> None:
    """Print up to five rows: source, base answer, tuned answer, reference."""
    base = {sample["row"]: sample for sample in reversed(before)}
    tuned = {sample["row"]: sample for sample in reversed(after)}
    for row, sample in list(reversed(tuned.items()))[:SAMPLES]:
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="cyan", no_wrap=True)
        grid.add_column(overflow="fold")
        grid.add_row("source", _trimmed(sample["prompt"], "dim"))
        if row in base:
            grid.add_row("base", _trimmed(base[row]["answer"]))
        grid.add_row("tuned", _trimmed(sample["answer"], "bold"))
        if sample.get("reference"):
            grid.add_row("reference", _trimmed(sample["reference"], "green"))
        console.rule(safe(row, "dim"), align="left", style="dim")
        console.print(grid)
    if tuned:
        console.rule(style="dim")


def _trimmed(text: str, style: str = "") -> Text:
    lines = text.strip("\n").splitlines() or ["(nothing)"]
    shown = "\n".join(lines[:LINES])
    cut = len(lines) > LINES or len(shown) > LETTERS
    return safe(shown[:LETTERS].rstrip() + (" …" if cut else ""), style)


def ledger_line(ledger: Mapping[str, Any]) -> str:
    """What became of the rows, in one line."""
    if not ledger:
        return ""
    shown = [f"{ledger['rows_in']:,} read"] if ledger.get("rows_in") else []
    shown.extend(f"{ledger[fate]:,} {fate.replace('_', ' ')}" for fate in ("trained", "held_out") if ledger.get(fate))
    for fate in ("dropped", "truncated"):
        if ledger.get(fate):
            reasons = "; ".join(f"{count} x {reason}" for reason, count in ledger[f"{fate}_reasons"].items())
            shown.append(f"{ledger[fate]:,} {fate} ({reasons})")
    return " · ".join(shown)


def _training(training: Mapping[str, Any]) -> str:
    if "steps" not in training:
        return ""
    shown = [f"{training['steps']:,} steps in {seconds(training['seconds'])}"]
    if training.get("tokens"):
        shown.append(f"{training['tokens']:,} tokens")
        if training["seconds"]:
            shown.append(f"{number(training['tokens'] / training['seconds'], 3)} tokens/s")
    if training.get("parameters"):
        moved, total = training["trainable_parameters"], training["parameters"]
        shown.append(f"{moved:,} of {total:,} parameters ({moved / total:.2%})")
    return " · ".join(shown)


def _memory(memory: Mapping[str, Any]) -> str:
    if not memory:
        return ""
    return f"{size(memory['bytes'])} at the peak, {'resident' if memory['of'] == 'process' else memory['of']}"


def _facts(facts: Mapping[str, Any]) -> str:
    plain: Iterable[tuple[str, Any]] = ((k, v) for k, v in facts.items() if isinstance(v, (str, int, float)))
    return " · ".join(f"{k.replace('_', ' ')} {number(v) if isinstance(v, float) else v}" for k, v in plain)


def _labelled(label: str, text: str) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="cyan", no_wrap=True, min_width=9)
    grid.add_column(overflow="fold")
    grid.add_row(label, safe(text))
    return grid
