"""`tunesmith combine`: several adapters of one base as one."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from tunesmith.console.opened import AsJson, artifact_of, is_artifact, plugin_files_of, settings_table
from tunesmith.console.out import data_console, next_steps, print_json, safe
from tunesmith.console.progress import reporter
from tunesmith.errors import UsageError


def combine(
    ctx: typer.Context,
    parts: Annotated[
        list[str],
        typer.Argument(metavar="RUN=WEIGHT", help="A run or an artifact, and its weight.", show_default=False),
    ],
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="Folder to make.", show_default=False)],
    how: Annotated[
        str | None, typer.Option("--how", metavar="NAME", help="Way to combine; the adapter's own by default.")
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Set an option of that way. May be repeated."),
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of ways that draw at random.")] = 42,
    device: Annotated[str, typer.Option(metavar="NAME", help="cpu, cuda, cuda:N, mps or auto.")] = "auto",
    as_json: AsJson = False,
) -> None:
    """Add up adapters of one base by weight; the result is an artifact like any other.

    The adapters must be of one kind and made for the same base. Whether there is a sum, and which ways to make it,
    the kind of adapter says itself.
    """
    from tunesmith.combine import Weighted
    from tunesmith.combine import combine as add_up
    from tunesmith.context import Context

    weights = _weights(parts)
    weighted = [Weighted(artifact_of(run), weight, str(run)) for run, weight in weights]
    files = list(dict.fromkeys(file for run, _ in weights for file in plugin_files_of(run)))
    registry = ctx.obj.registry(files)
    with reporter() as talk:
        context = Context(seed=seed, device=device, reporter=talk, registry=registry)
        talk.phase("combine")
        made = add_up(weighted, to, registry, context, how=how, options=settings_table(sets or ()))
    if as_json:
        listed = [{"run": part.name, "weight": part.weight} for part in weighted]
        print_json({"artifact": str(made), "how": how, "parts": listed})
        return
    data_console().print(safe(made), soft_wrap=True)
    folder = shlex.quote(str(made))
    steps = [f"tunesmith chat {folder}", f"tunesmith export {folder} --use merge"]
    if not is_artifact(weights[0][0]):  # a run, whose held-out rows can measure the sum
        run = shlex.quote(weighted[0].name)
        steps[1:] = [
            f"tunesmith evaluate {run} --artifact {folder}",
            f"tunesmith export {run} --artifact {folder} --use merge",
        ]
    next_steps(*steps)


def _weights(parts: Sequence[str]) -> list[tuple[Path, float]]:
    found = []
    for part in parts:
        run, equals, weight = part.rpartition("=")
        try:
            if not (run and equals):
                raise ValueError("no weight")
            found.append((Path(run), float(weight)))
        except ValueError as error:
            raise UsageError(
                f"{part!r} does not read RUN=WEIGHT", fix="Example: tunesmith combine runs/a-001=0.7 runs/b-001=0.3"
            ) from error
    return found
