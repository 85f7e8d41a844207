"""`tunesmith data check`: load a recipe's rows and say what became of each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import typer

from tunesmith.console.opened import AsJson, RecipePath, Sets, StageName, context_of, plan_of, stage_of
from tunesmith.console.out import data_console, next_steps, note, print_json, safe
from tunesmith.console.progress import reporter
from tunesmith.ledger import Ledger
from tunesmith.records import Dataset, Records


def check(
    ctx: typer.Context, recipe: RecipePath, sets: Sets = None, stage: StageName = None, as_json: AsJson = False
) -> None:
    """Load the rows of a recipe as a run would: what was recognised, what is kept, what is lost and why.

    The exit code is 65 when a run would refuse the data.
    """
    from tunesmith.stage import load_data

    plan, _ = plan_of(ctx.obj, recipe, sets)
    chosen = stage_of(plan, stage)
    with reporter() as talk:
        context = context_of(plan, talk)
        data = load_data(chosen, context)
    described = describe(data, context.ledger)
    if as_json:
        print_json(described)
        return
    _draw(described, context.ledger)
    next_steps(f"tunesmith data show {recipe} --mask", f"tunesmith run {recipe}")


def describe(data: Dataset, ledger: Ledger) -> dict[str, Any]:
    """What was loaded, as plain data; lengths are in characters of the row's text."""
    return {
        "recognised": data.recognised,
        "type": data.type,
        "train": _rows(data.train),
        "validation": _rows(data.validation),
        "ledger": {**ledger.summary(), "trained": len(data.train), "held_out": len(data.validation)},
        "dropped": [vars(entry) for entry in ledger.of("dropped")],
        "truncated": [vars(entry) for entry in ledger.of("truncated")],
    }


def _rows(records: Records) -> dict[str, Any]:
    lengths = sorted(len(_text(row)) for row in records.rows)
    if not lengths:
        return {"rows": 0}
    shortest, median, longest = lengths[0], lengths[len(lengths) // 2], lengths[-1]
    columns = list(dict.fromkeys(key for row in records.rows for key in row))
    shape = {"shortest": shortest, "median": median, "longest": longest}
    return {"rows": len(lengths), "columns": columns, "characters": shape}


def _text(row: Mapping[str, Any]) -> str:
    return "".join(v if isinstance(v, str) else json.dumps(v, ensure_ascii=False, default=str) for v in row.values())


def _draw(described: Mapping[str, Any], ledger: Ledger) -> None:
    from rich import box
    from rich.table import Table

    console = data_console()
    console.print(safe(f"{described['recognised'] or 'rows'}: records of type {described['type']}"))
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    table.add_column("part", style="cyan")
    for heading in ("rows", "shortest", "median", "longest"):
        table.add_column(heading, justify="right")
    table.add_column("columns")
    for part in ("train", "validation"):
        found = described[part]
        lengths = found.get("characters", {})
        figures = [str(lengths.get(key, "")) for key in ("shortest", "median", "longest")]
        table.add_row(part, str(found["rows"]), *figures, safe(", ".join(found.get("columns", []))))
    console.print(table)
    counts = described["ledger"]
    console.print(
        f"{counts['rows_in']:,} rows read: {counts['trained']:,} to train, {counts['held_out']:,} held out, "
        f"{counts['dropped']:,} dropped, {counts['truncated']:,} truncated (lengths are in characters)"
    )
    for fate in ("dropped", "truncated"):
        for line in ledger.examples(fate):
            console.print(safe(f"  {fate} {line}", "yellow"))
    if not described["validation"]["rows"]:
        note("no rows are held out: set `validation = 0.1` in [data] to measure before and after")
