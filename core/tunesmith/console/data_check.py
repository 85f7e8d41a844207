"""`tunesmith data check`: load a recipe's rows and say what became of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import typer
from rich.console import Console

from tunesmith.console.opened import AsJson, RecipePath, Sets, StageName, context_of, plan_of, stage_of
from tunesmith.console.out import data_console, next_steps, note, print_json, safe
from tunesmith.console.progress import reporter
from tunesmith.console.watch import AsRead, Figures, spread
from tunesmith.errors import MissingError
from tunesmith.ledger import SHOWN, Ledger
from tunesmith.records import Dataset, Records


def check(
    ctx: typer.Context, recipe: RecipePath, sets: Sets = None, stage: StageName = None, as_json: AsJson = False
) -> None:
    """Load and tokenize the rows of a recipe as a run would: what was recognised, what is kept, what is lost and why.

    The exit code is 65 when a run would refuse the data.
    """
    from tunesmith.stage import load_data
    from tunesmith.tokenized import encode, measured

    plan, registry = plan_of(ctx.obj, recipe, sets)
    chosen = stage_of(plan, stage)
    before = AsRead()
    with reporter() as talk:
        context = context_of(plan, talk).with_(trusted_code=registry.trusted_code)
        data = load_data(chosen, context, before)
        described = describe(data, context.ledger, before)
        try:
            described["train"]["tokens"] = spread(encode(plan, chosen, data, context))
            described["validation"]["tokens"] = spread(measured(plan, chosen, data, context))
            described |= fates(context.ledger)
        except MissingError as error:
            described["tokenized"] = error.what
    if as_json:
        print_json(described)
        return
    _draw(described, context.ledger)
    next_steps(f"tunesmith data show {recipe} --mask", f"tunesmith run {recipe}")


def describe(data: Dataset, ledger: Ledger, before: AsRead) -> dict[str, Any]:
    """What was loaded, as plain data; lengths are in characters of the row's text, and nothing is tokenized yet."""
    return {
        "recognised": data.recognised,
        "type": data.type,
        "notes": list(data.notes),
        "unused": dict(data.unused),
        "read": before.describe(),
        "train": _rows(data.train),
        "validation": _rows(data.validation),
        **fates(ledger),
        "ledger": {**ledger.summary(), "trained": len(data.train), "held_out": len(data.validation)},
        "tokenized": "",
    }


def fates(ledger: Ledger) -> dict[str, Any]:
    """What became of the rows, as plain data."""
    return {
        "ledger": ledger.summary(),
        "dropped": [vars(entry) for entry in ledger.of("dropped")],
        "truncated": [vars(entry) for entry in ledger.of("truncated")],
    }


def _rows(records: Records) -> dict[str, Any]:
    figures = Figures()
    for row in records.rows:
        figures.add(row)
    return figures.describe()


def _draw(described: Mapping[str, Any], ledger: Ledger) -> None:
    from rich import box
    from rich.table import Table

    console = data_console()
    console.print(safe(f"{described['recognised'] or 'rows'}: records of type {described['type']}"))
    for sentence in described["notes"]:
        console.print(safe(sentence))
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    table.add_column("part", style="cyan")
    for heading in ("rows", "characters", "tokens", "missing", "repeated"):
        table.add_column(heading, justify="right")
    for part, heading in (("read", "as read"), ("train", "train"), ("validation", "validation")):
        found = described[part]
        figures = [" / ".join(map(str, found.get(unit, {}).values())) for unit in ("characters", "tokens")]
        rest = [str(sum(found["missing"].values())), str(found["repeated"])] if found["rows"] else ["", ""]
        table.add_row(heading, str(found["rows"]), *figures, *rest)
    console.print(table)
    console.print("lengths: shortest / median / longest", style="dim")
    columns = [described[part].get("columns", []) for part in ("read", "train")]
    for heading, names in zip(("columns as read", "columns"), columns, strict=True):
        if names and (heading == "columns" or names != columns[1]):
            console.print(safe(f"{heading}: {', '.join(names)}"))
    unused = [f"{key} ({count:,} row{'s' * (count != 1)})" for key, count in described["unused"].items()]
    if unused:
        console.print(safe(f"not used: {', '.join(unused)}", "yellow"))
    counts = described["ledger"]
    _draw_steps(console, counts["steps"])
    more = f" + {counts['added']:,} added" if counts["added"] else ""
    cut = f" ({counts['truncated_tokens']:,} tokens cut)" if counts["truncated_tokens"] else ""
    console.print(
        f"{counts['rows_in']:,} rows read{more}: {counts['trained']:,} to train, {counts['held_out']:,} held out, "
        f"{counts['dropped']:,} dropped, {counts['truncated']:,} truncated{cut}"
    )
    for fate in ("dropped", "truncated"):
        for line in ledger.examples(fate):
            console.print(safe(f"  {fate} {line}", "yellow"))
    if described["tokenized"]:
        note(f"rows are counted, not tokenized: {described['tokenized']}")
    if not described["validation"]["rows"]:
        note("no rows are held out: set `validation = 0.1` in [data] to measure before and after")


def _draw_steps(console: Console, steps: Sequence[Mapping[str, Any]]) -> None:
    """A line for each step: what it did to how many rows, and why."""
    from rich import box
    from rich.table import Table

    if not steps:
        return
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    table.add_column("step", style="cyan", overflow="fold")
    for heading in ("rows in", "noted", "changed", "added", "dropped", "rows out"):
        table.add_column(heading, justify="right")
    for step in steps:
        figures = [str(step[key]) for key in ("rows_in", "noted", "changed", "added", "dropped", "rows_out")]
        table.add_row(safe(step["step"]), *figures)
    console.print(table)
    for step in steps:
        for fate in ("noted", "changed", "added"):
            own = [(why, count) for reason, count in step["reasons"].items() if (why := _why(reason, fate))]
            if own:
                more = ", ..." if len(own) > SHOWN else ""
                told = ", ".join(f"{count} x {why}" for why, count in own[:SHOWN])
                console.print(safe(f"  {step['step']} {fate}: {told}{more}"))
        for sentence in step["said"]:
            console.print(safe(f"  {step['step']}: {sentence}"))


def _why(reason: str, fate: str) -> str:
    """The reason alone, when it is one for this fate."""
    return reason.removeprefix(f"{fate}: ") if reason.startswith(f"{fate}: ") else ""
