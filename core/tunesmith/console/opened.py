"""From the words of a command line to a plan, a stage, a finished run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from tunesmith.assign import assign
from tunesmith.console.options import Options
from tunesmith.context import Context, Reporter
from tunesmith.errors import DataError, UsageError, nearest
from tunesmith.folder import MANIFEST, RunFolder
from tunesmith.plan import Plan, StagePlan, make_plan
from tunesmith.recipe import Recipe, read
from tunesmith.registry import Registry

RecipePath = Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe, a TOML file.", show_default=False)]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="The run's folder.", show_default=False)]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a key, as in trainer.epochs=2. May be repeated."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON to stdout.")]
ArtifactPath = Annotated[
    Path | None,
    typer.Option(
        "--artifact", metavar="FOLDER", help="This artifact instead of the run's own; the rows are the run's."
    ),
]
StageName = Annotated[str | None, typer.Option("--stage", metavar="NAME", help="Which stage of a recipe with several.")]
Files = Annotated[
    list[Path] | None,
    typer.Option("--file", metavar="FILE.py", help="A local plugin file to look at as well. May be repeated."),
]


def plan_of(options: Options, path: Path, sets: Sequence[str] | None) -> tuple[Plan, Registry]:
    """Read a recipe and check it against the plugins, its local files included.

    Raises:
        TunesmithError: as `read` and `make_plan`.
    """
    recipe = read(path, sets or ())
    registry = options.registry(recipe.plugin_files)
    return make_plan(recipe, registry), registry


def plan_of_run(options: Options, path: Path) -> tuple[Plan, Registry, RunFolder]:
    """The plan of an existing run, as the plugins that are installed now understand it."""
    from tunesmith.run import reopen  # with all that a run needs, which a plan does not

    folder, recipe = reopen(path)
    registry = options.registry(recipe.plugin_files)
    return make_plan(recipe, registry), registry, folder


def stage_of(plan: Plan, name: str | None) -> StagePlan:
    """The stage that is meant: the named one, or the last.

    Raises:
        UsageError: there is none of that name.
    """
    names = [stage.name for stage in plan.stages]
    if name is None:
        return plan.stages[-1]
    if name not in names:
        near = nearest(name, names)
        raise UsageError(
            f"there is no stage {name!r}", fix=f"Did you mean {near!r}?" if near else f"Stages: {', '.join(names)}."
        )
    return plan.stage(name)


def plugin_files_of(path: Path) -> list[Path]:
    """The local plugins of the run that `path` is, or is in; those that its card names where it is in none.

    Raises:
        DataError: the card is damaged.
        RecipeError: one of the files is gone.
    """
    from tunesmith.artifact import CARD, read_card

    if is_artifact(path) and (named := read_card(path).get("plugin_files")):
        return Recipe({"plugins": named}, path / CARD).plugin_files
    from tunesmith.run import reopen

    for place in (path.absolute(), *path.absolute().parents[:3]):
        if (place / MANIFEST).is_file():
            return reopen(place)[1].plugin_files
    return []


def settings_table(sets: Sequence[str]) -> dict[str, Any]:
    """What some `KEY=VALUE` come to, as a table of settings.

    Raises:
        UsageError: one does not read KEY=VALUE.
    """
    recipe = Recipe({})
    for assignment in sets:
        assign(recipe, assignment)
    return recipe.tree


def is_artifact(path: Path) -> bool:
    """Whether `path` is an artifact's folder."""
    from tunesmith.artifact import CARD

    return (path / CARD).is_file()


def artifact_of(path: Path, stage: str | None = None) -> Path:
    """The artifact folder that `path` means: itself, or that of a run's stage, the last one by default.

    Raises:
        DataError: the run has none yet.
    """
    if is_artifact(path):
        return path
    folder = RunFolder.open(path)
    names = [described["name"] for described in folder.manifest.get("plan", {}).get("stages", [])]
    if stage is not None and stage not in names:
        raise UsageError(f"there is no stage {stage!r}", fix=f"Stages: {', '.join(names)}.")
    from tunesmith.stage import stage_folder

    places = [stage_folder(path, name) / "artifact" for name in ([stage] if stage else reversed(names))]
    for place in places:
        if is_artifact(place):
            return place
    raise DataError(
        f"run {path.name} has kept no artifact yet (it is {folder.status})",
        where=str(path),
        fix=f"tunesmith resume {path}" if folder.status != "running" else "Wait for it to end.",
    )


def context_of(plan: Plan, reporter: Reporter, place: Path | None = None) -> Context:
    """The surroundings in which a run of this plan works, threads included."""
    if plan.run.threads:
        import torch

        torch.set_num_threads(plan.run.threads)
    context = Context(
        seed=plan.run.seed,
        repetition=plan.run.repetition,
        device=plan.run.device,
        folder=plan.recipe.folder,
        reporter=reporter,
        max_lost_rows=plan.run.max_lost_rows,
    )
    return context.with_(stage_folder=place) if place else context
