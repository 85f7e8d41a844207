"""`tunesmith run`: execute a recipe and show what it came to."""

from __future__ import annotations

from typing import Annotated

import typer

from tunesmith.console.opened import AsJson, RecipePath, Sets, context_of, plan_of
from tunesmith.console.out import kept_in, print_json
from tunesmith.console.progress import reporter
from tunesmith.console.report import show_run


def run(
    ctx: typer.Context,
    recipe: RecipePath,
    sets: Sets = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Make every stage anew, even one that is unchanged.")] = False,
    repeat: Annotated[
        int | None,
        typer.Option("--repeat", min=1, metavar="N", help="Run it N times on the same split: mean and spread."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run a recipe: train, and measure the held-out rows before and after.

    A signal (Ctrl-C) finishes the step, saves and stops; `tunesmith resume RUN` goes on.
    """
    from tunesmith.guard import guarded, wrong_type
    from tunesmith.run import start

    if repeat is not None:
        from tunesmith.console.repeat import repeat as repeated

        repeated(ctx.obj, recipe, sets or (), repeat, as_json)
        return
    plan, registry = plan_of(ctx.obj, recipe, sets)
    if plan.launcher:
        with reporter() as talk, guarded(plan.launcher):
            code = plan.launcher.call(plan, plan.launcher.settings, context_of(plan, talk))
        if not isinstance(code, int):
            raise wrong_type(plan.launcher, "an exit code (int)", code)
        raise typer.Exit(code)
    with reporter() as talk:
        done = start(plan, registry, talk, fresh=fresh)
    results = {name: result.describe() for name, result in done.results.items()}
    with kept_in(done.folder):
        if as_json:
            print_json({"run": str(done.folder), "stages": results})
        else:
            show_run(done.folder, results)
