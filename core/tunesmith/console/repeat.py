"""`tunesmith run --repeat N`: the same recipe several times, and how far chance carries its figures."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunesmith.console.opened import plan_of
from tunesmith.console.options import Options
from tunesmith.console.out import data_console, next_steps, note, number, print_json, safe
from tunesmith.console.progress import reporter
from tunesmith.errors import UsageError
from tunesmith.run import Run


def repeat(options: Options, recipe: Path, sets: Sequence[str], count: int, as_json: bool) -> None:
    """Run a recipe `count` times, with `run.repetition` from 0 on, and print mean and spread."""
    from tunesmith.run import start

    runs: list[Run] = []
    for repetition in range(count):
        plan, registry = plan_of(options, recipe, [*sets, f"run.repetition={repetition}"])
        if plan.launcher:
            raise UsageError(
                "--repeat runs here, and the recipe has a launcher", fix="Leave [launcher] or --repeat out."
            )
        note(f"== repetition {repetition + 1} of {count}")
        with reporter() as talk:
            runs.append(start(plan, registry, talk))
    found = spread([list(run.results.values())[-1].describe() for run in runs])
    if as_json:
        print_json({"runs": [str(run.folder) for run in runs], "measures": found})
        return
    _show(found, count)
    for run in runs:
        data_console().print(safe(f"run folder: {run.folder}"), soft_wrap=True)
    next_steps(f"tunesmith chat {runs[-1].folder}", "tunesmith runs")


def spread(results: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """By measure: `before` and `after`, each with its `values`, their `mean` and standard deviation `sd` (n - 1)."""
    names = list(results[0]["after"].get("measures", {}))
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        for part in ("before", "after"):
            values = [r[part]["measures"][name]["value"] for r in results if name in r[part].get("measures", {})]
            whole = len(values) == len(results) and all(map(math.isfinite, values))
            sd = statistics.stdev(values) if whole and len(values) > 1 else None
            mean = statistics.fmean(values) if whole else None
            found.setdefault(name, {})[part] = {"mean": mean, "sd": sd, "values": values}
    return found


def _show(found: Mapping[str, Mapping[str, Any]], count: int) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), collapse_padding=True, pad_edge=False)
    table.caption = f"mean ± standard deviation over {count} repetitions, on the same held-out rows"
    table.caption_justify, table.caption_style = "left", "dim"
    for head in ("measure", "before", "after", "least", "most"):
        table.add_column(head, justify="left" if head == "measure" else "right")
    for name, parts in found.items():
        cells = [_told(parts["before"]), _told(parts["after"])]
        values = parts["after"]["values"]
        table.add_row(safe(name, "bold"), *map(safe, cells), number(min(values)), number(max(values)))
    data_console().print(table)


def _told(part: Mapping[str, Any]) -> str:
    if part["mean"] is None:
        return ""
    return number(part["mean"]) + (f" ± {number(part['sd'], 2)}" if part["sd"] is not None else "")
