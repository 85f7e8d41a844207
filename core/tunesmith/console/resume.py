"""`tunesmith resume`: go on with a run."""

from __future__ import annotations

from typing import Annotated

import typer

from tunesmith.console.opened import AsJson, RunPath
from tunesmith.console.out import kept_in, print_json
from tunesmith.console.progress import reporter
from tunesmith.console.report import show_run


def resume(
    ctx: typer.Context,
    run: RunPath,
    other_versions: Annotated[
        bool, typer.Option("--other-versions", help="Go on with other versions of torch and the like.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Go on with a stopped, failed or killed run from its newest checkpoint that verifies."""
    from tunesmith.run import reopen
    from tunesmith.run import resume as go_on

    _, recipe = reopen(run)
    registry = ctx.obj.registry(recipe.plugin_files)
    with reporter() as talk:
        done = go_on(run, registry, talk, other_versions=other_versions)
    results = {name: result.describe() for name, result in done.results.items()}
    with kept_in(done.folder):
        if as_json:
            print_json({"run": str(done.folder), "stages": results})
        else:
            show_run(done.folder, results)
