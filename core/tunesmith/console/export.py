"""`tunesmith export`: write the result of a run in another form."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from tunesmith.console.opened import (
    ArtifactPath,
    AsJson,
    RunPath,
    StageName,
    artifact_of,
    context_of,
    is_artifact,
    plan_of_run,
    plugin_files_of,
    settings_table,
    stage_of,
)
from tunesmith.console.out import data_console, next_steps, print_json, safe
from tunesmith.console.progress import reporter
from tunesmith.context import Context, Reporter
from tunesmith.errors import MissingError, UsageError
from tunesmith.plan import StagePlan, Use
from tunesmith.recipe import Recipe, check_settings, plain
from tunesmith.registry import Registry
from tunesmith.spec import Settings

NAME = "export"


def export(
    ctx: typer.Context,
    run: RunPath,
    use: Annotated[
        str | None, typer.Option("--use", metavar="NAME", help="The exporter, instead of the recipe's.")
    ] = None,
    to: Annotated[
        Path | None, typer.Option("--to", metavar="FOLDER", help="Where to write; the exporter's own place by default.")
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Change a setting of the exporter. May be repeated."),
    ] = None,
    artifact: ArtifactPath = None,
    stage: StageName = None,
    as_json: AsJson = False,
) -> None:
    """Let an exporter write the artifact of a run, as the recipe's `[[export]]` does at the end of a run.

    An exporter that the recipe has keeps its settings; another one has its defaults. RUN may be an artifact's folder;
    then there are no held-out rows to compare on.
    """
    from tunesmith.stage import export as write

    if is_artifact(run):
        registry, plan, chosen = ctx.obj.registry(plugin_files_of(run)), None, None
    else:
        plan, registry, _ = plan_of_run(ctx.obj, run)
        chosen = stage_of(plan, stage)
    source = artifact_of(artifact or run, chosen.name if chosen and artifact is None else None)
    changes = settings_table(sets or ()) | ({"to": str(to.absolute())} if to else {})
    uses = _exporters(registry, chosen, use, changes)
    if to and len(uses) > 1:
        raise UsageError(
            f"--to names one folder, but the recipe has {len(uses)} exporters", fix="Choose one: --use NAME."
        )
    exported = []
    with reporter() as talk:
        context = context_of(plan, talk, source.parent) if plan else Context(reporter=talk, stage_folder=source.parent)
        context = context.with_(registry=registry)
        if chosen:
            context = context.with_(rows=lambda: _rows(chosen, context, talk))
        for each in uses:
            talk.phase(f"{NAME} {each.component.name}")
            own = context.with_(facts={})
            path = write(each, source, own)
            exported.append({"use": each.component.name, "path": str(path), "facts": own.facts})
    if as_json:
        print_json({"run": str(run), "artifact": str(source), "exports": exported})
        return
    for done in exported:
        data_console().print(safe(done["path"]), soft_wrap=True)
    next_steps(f"tunesmith evaluate {shlex.quote(str(run))}" if chosen else "tunesmith runs")


def _rows(stage: StagePlan, context: Context, talk: Reporter) -> Any:
    from tunesmith.ledger import Ledger
    from tunesmith.stage import load_data

    talk.phase("load data")
    return load_data(stage, context.with_(ledger=Ledger()))


def _exporters(
    registry: Registry, stage: StagePlan | None, name: str | None, changes: Mapping[str, Any]
) -> Sequence[Use]:
    """The exporters that are meant, the named one or the recipe's, with some settings changed.

    Raises:
        UsageError: none is named and the recipe has none.
        MissingError: there is none of that name, or it needs what is not installed.
        RecipeError: a change is no setting of it.
    """
    planned = [use for use in (stage.exporters if stage else ()) if name in (None, use.component.name, use.qualified)]
    if planned:
        return [_changed(use, plain(use.settings), changes) for use in (planned[:1] if name else planned)]
    if name is None:
        known = ", ".join(entry.component.name for entry in registry.entries("exporter")) or "none"
        raise UsageError("no exporter is named", fix=f"Name one with --use; installed: {known}.")
    entry = registry.find("exporter", name, where=f"--use {name}")
    if missing := entry.missing():
        raise MissingError(
            f"exporter {name!r} needs {', '.join(missing)}, not installed here",
            fix=f"Run: pip install {entry.plugin.distribution}",
        )
    plugin = entry.plugin
    use = Use(entry.component, entry.qualified, plugin.distribution, plugin.version, Settings())
    return [_changed(use, {}, changes)]


def _changed(use: Use, table: Mapping[str, Any], changes: Mapping[str, Any]) -> Use:
    origins = {(NAME, key): f"--set {key}" for key in changes}
    recipe = Recipe({}, origins=origins)  # type: ignore[arg-type]
    settings = check_settings(use.component.settings, {**table, **changes}, recipe, (NAME,))
    return replace(use, settings=settings)
