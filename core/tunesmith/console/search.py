"""`tunesmith search`: try values of a recipe's settings, and keep the best."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.console.opened import AsJson, RecipePath, Sets
from tunesmith.console.out import data_console, next_steps, note, number, print_json, safe
from tunesmith.console.progress import reporter

if TYPE_CHECKING:
    from tunesmith.search.result import Search

ROWS = 10


def search(
    ctx: typer.Context,
    recipe: RecipePath,
    trials: Annotated[
        int | None, typer.Option("--trials", min=1, metavar="N", help="How many in all, as [search] trials.")
    ] = None,
    to: Annotated[Path | None, typer.Option("--to", metavar="FOLDER", help="Where the search is kept.")] = None,
    sets: Sets = None,
    as_json: AsJson = False,
) -> None:
    """Try values for the keys that [search.space] names; each trial is an ordinary run.

    The same command goes on after Ctrl-C or a crash, and with a higher --trials after the end.
    """
    from tunesmith.recipe import read
    from tunesmith.search.driver import Work

    opened = read(recipe, sets or ())
    work = Work.plan(opened, ctx.obj.registry(opened.plugin_files), to, trials)
    with reporter() as talk:
        done = work.execute(talk, note)
    if as_json:
        print_json(done.describe())
    else:
        _show(done)


def _show(done: Search) -> None:
    from rich import box
    from rich.table import Table

    from tunesmith.search.result import NAME, shown

    console = data_console()
    keys = list(done.trials[0].values)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), collapse_padding=True, pad_edge=False)
    table.add_column("trial", justify="right")
    table.add_column(safe(f"{done.measure} ({done.better} is better)"), justify="right", style="bold")
    for key in keys:
        table.add_column(safe(key), justify="right")
    for trial in done.ranked[:ROWS]:
        cells = [safe(shown(trial.values[key])) for key in keys]
        table.add_row(str(trial.number + 1), number(trial.value), *cells)
    console.print(table)
    ends = [trial.outcome for trial in done.trials]
    told = [f"{ends.count(end)} {end}" for end in ("done", "pruned", "failed", "open") if end in ends]
    console.print(safe(" · ".join(told), "dim"))
    for key, share in done.importances.items():
        console.print(safe(f"{share:5.0%}  {key}"))
    if done.importances:
        console.print(safe("share of what decided, by PED-ANOVA or the searcher's own measure", "dim"))
    console.print(safe(f"table and plot: {done.folder / f'{NAME}.md'}"), soft_wrap=True)
    best = done.best
    if best:
        console.print(
            safe("the rows that chose these values flatter them: measure the best recipe on other rows", "dim")
        )
        next_steps(f"tunesmith run {shlex.quote(str(done.best_recipe))}", f"tunesmith chat {best.run}")
