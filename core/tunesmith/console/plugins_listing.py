"""`tunesmith plugins list` as typer sees it: for `--help`, and for words that the quick way leaves alone."""

from __future__ import annotations

from typing import Annotated

import typer

from tunesmith.console.opened import AsJson, Files
from tunesmith.console.plugins_list import Chosen, show


def plugins_list(
    ctx: typer.Context,
    kind: Annotated[
        str | None, typer.Option("--kind", metavar="KIND", help="Only one kind: loader, model, adapter, ...")
    ] = None,
    file: Files = None,
    as_json: AsJson = False,
) -> None:
    """List every component with its state: ready, missing, disabled or broken."""
    chosen = Chosen()
    chosen.kind, chosen.as_json, chosen.files = kind, as_json, list(file or ())
    raise typer.Exit(show(ctx.obj, chosen))
