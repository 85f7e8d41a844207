"""`tunesmith compare`: several adapters at an equal budget, one table and one plot."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tunesmith.console.opened import AsJson, Sets
from tunesmith.console.out import data_console, next_steps, note, print_json, safe
from tunesmith.errors import UsageError

if TYPE_CHECKING:
    from rich.table import Table

    from tunesmith.comparison.result import Comparison


def compare(
    ctx: typer.Context,
    what: Annotated[
        list[Path],
        typer.Argument(metavar="RECIPE", help="A recipe to train with, or finished runs.", show_default=False),
    ],
    adapter: Annotated[
        list[str] | None,
        typer.Option(
            "--adapter",
            metavar='"NAME KEY=VALUE ..."',
            help='An adapter to compare, as in "lora rank=4", instead of those of the recipe. May be repeated.',
        ),
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="NAME", help="Run only this one. May be repeated.")
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", metavar="N", help="Optimizer steps of each.")] = None,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FOLDER", help="Where runs, table and plot are kept.")
    ] = None,
    against: Annotated[
        str | None,
        typer.Option("--against", metavar="NAME", help="The run, or `base`, that the others are compared with."),
    ] = None,
    sets: Sets = None,
    as_json: AsJson = False,
) -> None:
    """Train each adapter with the same recipe and budget, each in a process of its own, and compare.

    What is finished is kept: the same command goes on after Ctrl-C, and runs again what failed. With the folders of
    finished runs nothing is trained: they are put beside each other, on the held-out rows of the first.
    """
    given = {"--adapter": adapter, "--only": only, "--steps": steps, "--to": to, "--set": sets}
    if any(path.is_dir() for path in what):
        from tunesmith.console.compare_runs import compare_runs

        _refuse([name for name, value in given.items() if value], "a recipe", "finished runs")
        compare_runs(ctx.obj, what, against, as_json)
        return
    _refuse(["--against"] if against else [], "finished runs", "a recipe")
    if len(what) > 1:
        raise UsageError(
            "several files are named: one recipe is compared, or the folders of runs",
            fix="tunesmith compare RECIPE, or tunesmith compare RUN RUN",
        )
    recipe = what[0]
    from tunesmith.comparison.driver import compare as run_all

    changes = [*(sets or ()), *([f"compare.steps={steps}"] if steps is not None else [])]
    done = run_all(
        recipe,
        adapter or (),
        only=only or (),
        sets=changes,
        folder=to,
        disable=ctx.obj.no_plugin,
        trusted_code=ctx.obj.trusted_code,
        say=note,
    )
    if as_json:
        print_json(done.describe())
    else:
        _show(done)
    if all(method.error for method in done.methods):
        raise typer.Exit(next(method.error["exit_code"] for method in done.methods if method.error))


def _refuse(options: list[str], meant: str, given: str) -> None:
    """An option of the other use is an error, not a word without effect."""
    if options:
        raise UsageError(f"{', '.join(options)} is for {meant}, not for {given}", fix=f"Leave {options[0]} out.")


def _show(done: Comparison) -> None:
    from tunesmith.comparison.figures import in_words, outcome

    console = data_console()
    console.print(table(done))
    for method in done.undone:
        console.print(safe(f"{method.name}: {outcome(method)}", "red"), soft_wrap=True)
    console.print(safe(in_words(done), "dim"))
    console.print(safe(f"table and plot: {done.folder / 'comparison.md'}"), soft_wrap=True)
    best = next((method for method in done.done if method.run), None)
    next_steps(*([f"tunesmith chat {best.run}"] if best else []), f"tunesmith runs {done.folder}")


def table(comparison: Comparison) -> Table:
    """A line a finished method, best first."""
    from rich import box
    from rich.table import Table

    from tunesmith.comparison.figures import cells, heads

    drawn = Table(box=box.SIMPLE_HEAD, padding=(0, 1), collapse_padding=True, pad_edge=False)
    name, *others = heads(comparison)
    drawn.add_column(name, style="bold", overflow="fold")
    for head in others:
        drawn.add_column(safe(head), justify="right")
    for method in comparison.done:
        drawn.add_row(*map(safe, cells(comparison, method)), style="dim" if method is comparison.base else None)
    return drawn
