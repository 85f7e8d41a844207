"""The table of `tunesmith compare RUN RUN ...`: a column a model, and what may be said of each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunesmith.console.opened import artifact_of, context_of, plan_of_run, plugin_files_of
from tunesmith.console.options import Options
from tunesmith.console.out import data_console, next_steps, number, print_json, safe, seconds, size
from tunesmith.console.progress import reporter
from tunesmith.verdict import in_words

if TYPE_CHECKING:
    from tunesmith.comparison.runs import RunComparison
    from tunesmith.context import Context
    from tunesmith.plan import Plan, StagePlan
    from tunesmith.registry import Registry


def compare_runs(options: Options, runs: list[Path], against: str | None, as_json: bool) -> None:
    """Compare finished runs and print the result."""
    from tunesmith.comparison.runs import compare_runs as compare

    with reporter() as talk:

        def plan_of(run: Path) -> tuple[Plan, StagePlan, Registry, Context]:
            files = list(dict.fromkeys(file for other in runs for file in plugin_files_of(other)))
            plan, _, _ = plan_of_run(options, run)
            return plan, plan.stages[-1], options.registry(files), context_of(plan, talk)

        done = compare(runs, artifact_of, plan_of, against=against)
    if as_json:
        print_json(done.describe())
    else:
        _show(done)


def _show(done: RunComparison) -> None:
    from rich import box
    from rich.table import Table

    console = data_console()
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), collapse_padding=True, pad_edge=False)
    table.caption, table.caption_justify, table.caption_style = "in brackets: the 95 % interval", "left", "dim"
    table.add_column("", style="bold", overflow="fold")
    for entry in done.entries:
        table.add_column(safe(entry.name), justify="right", overflow="fold")
    for name in done.entries[0].measures:
        table.add_row(safe(name), *(safe(_measure(entry.measures.get(name))) for entry in done.entries))
    table.add_section()
    for label, key in COSTS.items():
        cells = [_cost(entry.cost, key) for entry in done.entries]
        if any(cells):
            table.add_row(label, *(safe(cell) for cell in cells))
    console.print(table)
    for other, moved in done.moved.items():
        console.print(safe(f"{other} against {done.against}", "bold"), soft_wrap=True)
        for heading, text in in_words([one.describe() for one in moved]):
            console.print(safe(f"  {heading}: {text}"))
    if again := [entry.name for entry in done.entries if entry.again]:
        console.print(safe(f"measured again on the rows of the first: {', '.join(again)}", "dim"), soft_wrap=True)
    last = next(entry for entry in reversed(done.entries) if entry.run)
    next_steps(f"tunesmith chat {last.run}")


COSTS = {
    "trained parameters": "trainable_parameters",
    "steps": "steps",
    "tokens": "tokens",
    "training": "train_seconds",
    "whole run": "seconds",
    "peak memory": "memory",
}


def _measure(measure: Mapping[str, Any] | None) -> str:
    if measure is None:
        return ""
    told = number(measure["value"])
    if measure.get("low") is None or measure.get("high") is None:
        return told
    return f"{told}\n[{number(measure['low'], 3)}, {number(measure['high'], 3)}]"


def _cost(cost: Mapping[str, Any], key: str) -> str:
    value = cost.get(key)
    if not value:
        return ""
    if key == "memory":
        return size(value["bytes"])
    return seconds(value) if key.endswith("seconds") else f"{value:,}"
