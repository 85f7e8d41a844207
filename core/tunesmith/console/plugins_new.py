"""`tunesmith plugins new`: a plugin to start from."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from tunesmith.console.out import next_steps
from tunesmith.errors import UsageError


def new(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="The distribution, as tunesmith-mymethod; or a file, as my_method.py.")
    ],
    kind: Annotated[
        str, typer.Option("--kind", metavar="KIND", help="What it yields: adapter, loader, trainer, ...")
    ] = "adapter",
    into: Annotated[Path, typer.Option("--into", metavar="FOLDER", help="Where to put it.")] = Path("."),
) -> None:
    """Write a plugin package that installs, passes the checks and can be used at once.

    A NAME that ends in .py gives an adapter in one local file, which a recipe names.
    """
    from tunesmith.testing.scaffold import write_file, write_package

    if name.endswith(".py"):
        if kind != "adapter":
            raise UsageError("a local file is written for adapters only", fix=f"Leave out .py for a package of {kind}.")
        path = write_file(into / name)
        print(path)
        next_steps(f'plugins = ["{path}"] in a recipe, then use = "{path.stem.replace("_", "-")}" in [adapter]')
        return
    folder = into / name
    for path in write_package(folder, name, kind):
        print(path)
    component = name.removeprefix("tunesmith-")
    next_steps(f"pip install -e {shlex.quote(str(folder))}", f"tunesmith plugins check {component}")
