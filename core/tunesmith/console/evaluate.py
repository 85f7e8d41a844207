"""`tunesmith evaluate`: measure a finished run again."""

from __future__ import annotations

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
    plan_of_run,
    stage_of,
)
from tunesmith.console.out import data_console, next_steps, print_json, safe
from tunesmith.console.progress import reporter
from tunesmith.console.report import measures_table, show_samples
from tunesmith.errors import RecipeError
from tunesmith.folder import RunFolder
from tunesmith.plan import Plan, StagePlan, Use
from tunesmith.recipe import check_settings
from tunesmith.registry import Registry
from tunesmith.spec import Evaluator


def evaluate(
    ctx: typer.Context,
    run: RunPath,
    use: Annotated[
        list[str] | None,
        typer.Option("--use", metavar="NAME", help="An evaluator, instead of the recipe's. May be repeated."),
    ] = None,
    artifact: ArtifactPath = None,
    stage: StageName = None,
    as_json: AsJson = False,
) -> None:
    """Load the artifact of a run and run its evaluators again on the held-out rows.

    An evaluator that the recipe has keeps its settings; another one has its defaults.
    """
    plan, registry, folder = plan_of_run(ctx.obj, run)
    chosen = stage_of(plan, stage)
    chosen = replace(chosen, evaluators=_evaluators(plan, chosen, registry, use or ()))
    source = artifact_of(artifact) if artifact else artifact_of(run, chosen.name)
    found = _measure(plan, chosen, registry, source, run)
    if as_json:
        print_json({"run": str(run), "stage": chosen.name, "artifact": str(source), **found})
        return
    columns = {**_earlier(folder, chosen.name, found["measures"]), "now": found["measures"]}
    console = data_console()
    console.print(measures_table(columns))
    show_samples(console, folder.results.get(chosen.name, {}).get("before", {}).get("samples", []), found["samples"])
    console.print(safe(f"artifact: {source}"), soft_wrap=True)
    next_steps(f"tunesmith chat {run}")


def _measure(plan: Plan, stage: StagePlan, registry: Registry, artifact: Path, run: Path) -> dict[str, Any]:
    from tunesmith.comparison.runs import measure_artifact
    from tunesmith.held_out import measurable
    from tunesmith.stage import load_data

    with reporter() as talk:
        context = context_of(plan, talk, artifact.parent).with_(registry=registry)
        talk.phase("load data")
        data = load_data(stage, context)
        stage = replace(stage, evaluators=measurable(stage, data, context))
        return measure_artifact(artifact, data, stage, run, registry, context)


def _evaluators(plan: Plan, stage: StagePlan, registry: Registry, names: Sequence[str]) -> tuple[Use, ...]:
    if not names:
        if not stage.evaluators:
            known = ", ".join(entry.component.name for entry in registry.entries("evaluator")) or "none"
            raise RecipeError("the run's recipe has no evaluator", fix=f"Name one with --use; installed: {known}.")
        return stage.evaluators
    chosen = []
    for name in names:
        planned = [use for use in stage.evaluators if name in (use.component.name, use.qualified)]
        chosen.extend(planned or [_default(plan, registry, name)])
    return tuple(chosen)


def _default(plan: Plan, registry: Registry, name: str) -> Use:
    entry = registry.find("evaluator", name, where=f"--use {name}")
    assert isinstance(entry.component, Evaluator)
    needed = [role.name for role in entry.component.roles if not role.optional]
    if needed:
        raise RecipeError(
            f"evaluator {name!r} needs models that only a recipe names: {', '.join(needed)}",
            where=f"--use {name}",
            fix="Put it into [[evaluate]] of a recipe, with its [evaluate.models].",
        )
    settings = check_settings(entry.component.settings, {}, plan.recipe, ("evaluate", name))
    return Use(entry.component, entry.qualified, entry.plugin.distribution, entry.plugin.version, settings)


def _earlier(folder: RunFolder, stage: str, measured: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """What the run itself measured, as columns, as far as it has these measures."""
    results = folder.results.get(stage, {})
    named = {"before": results.get("before", {}), "after": results.get("after", {})}
    columns = {heading: result.get("measures", {}) for heading, result in named.items()}
    return {heading: found for heading, found in columns.items() if set(found) & set(measured)}
