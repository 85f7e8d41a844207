"""`tunesmith schema`: the JSON Schema of a recipe, for editors and other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tunesmith.console.opened import Files
from tunesmith.console.out import next_steps, print_json


def schema(
    ctx: typer.Context,
    recipe: Annotated[
        Path | None, typer.Argument(metavar="RECIPE", help="Take in the local plugins of this recipe too.")
    ] = None,
    file: Files = None,
) -> None:
    """Print the JSON Schema of a recipe for the plugins installed here.

    Editors with a TOML extension check and complete recipes with it.
    """
    from tunesmith.recipe import read
    from tunesmith.schema import recipe_schema

    files = [*(file or ()), *(read(recipe).plugin_files if recipe else ())]
    print_json(recipe_schema(ctx.obj.registry(files)))
    next_steps("tunesmith schema > recipe.schema.json, then write #:schema ./recipe.schema.json on top of a recipe")
