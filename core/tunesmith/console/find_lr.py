"""`tunesmith find-lr`: a few steps at rates that rise, and the learning rate that they suggest."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.console.opened import AsJson, RecipePath, Sets, StageName, plan_of, stage_of
from tunesmith.console.out import data_console, next_steps, print_json, safe
from tunesmith.console.progress import reporter

if TYPE_CHECKING:
    from tunesmith.rates.result import RangeTest


def find_lr(
    ctx: typer.Context,
    recipe: RecipePath,
    low: Annotated[float, typer.Option("--low", metavar="RATE", help="Learning rate of the first step.")] = 1e-7,
    high: Annotated[float, typer.Option("--high", metavar="RATE", help="Learning rate of the last step.")] = 1.0,
    steps: Annotated[int, typer.Option("--steps", metavar="N", help="Optimizer steps, at most.")] = 60,
    to: Annotated[Path | None, typer.Option("--to", metavar="FOLDER", help="Where the test is kept.")] = None,
    sets: Sets = None,
    stage: StageName = None,
    as_json: AsJson = False,
) -> None:
    """Find a learning rate: a few steps from the ordinary start, at rates that rise until the loss diverges.

    Nothing that is trained is kept.
    """
    from tunesmith.rates.driver import Work

    plan, registry = plan_of(ctx.obj, recipe, sets)
    work = Work.of(plan, stage_of(plan, stage), registry, low, high, steps, to)
    with reporter() as talk:
        done = work.execute(talk)
    if as_json:
        print_json(done.describe())
    else:
        _show(done)
        again = [f"{done.setting}={done.reading.rate:g}"] if done.reading.rate else []
        words = [part for key in (*(sets or ()), *again) for part in ("--set", key)]
        next_steps(f"tunesmith run {shlex.join([str(recipe), *words])}")


def _show(done: RangeTest) -> None:
    from rich.table import Table

    from tunesmith.rates.result import NAME

    console = data_console()
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for number, (name, told) in enumerate(done.told()):
        table.add_row(safe(name), safe(told, "bold" if not number else ""))
    console.print(table)
    if done.reading.rate:
        console.print(safe(f"\nwrite into the recipe: {done.setting} = {done.reading.rate:g}"), soft_wrap=True)
    console.print(safe(f"table and plot: {done.folder / f'{NAME}.md'}"), soft_wrap=True)
