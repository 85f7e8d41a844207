"""`tunesmith plan`: what a recipe means here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, fields
from typing import Annotated, Any

import typer

from tunesmith.console.opened import AsJson, RecipePath, Sets, plan_of
from tunesmith.console.out import data_console, next_steps, print_json, safe
from tunesmith.folder import check_writable
from tunesmith.plan import Plan, RolePlan, StagePlan, Use


def plan(
    ctx: typer.Context,
    recipe: RecipePath,
    sets: Sets = None,
    all_settings: Annotated[bool, typer.Option("--all", help="Show settings left at their default too.")] = False,
    probe: Annotated[
        bool, typer.Option("--probe", help="Build the model, show what moves, and try a few steps.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Print what a recipe means with the plugins installed here. Nothing is loaded, unless with --probe."""
    made, registry = plan_of(ctx.obj, recipe, sets)
    check_writable(made.run.folder)
    from tunesmith.console import plan_estimate

    found = {}
    if probe:
        from tunesmith.console.plan_probe import draw as draw_probe
        from tunesmith.console.plan_probe import probed

        found = probed(made, registry)
    outlooks = [plan_estimate.outlook(made, stage, registry, found.get(stage.name, ())) for stage in made.stages]
    if as_json:
        described = made.describe()
        for stage, outlook in zip(described["stages"], outlooks, strict=True):
            if stage["name"] in found:
                stage["probe"] = [one.describe() for one in found[stage["name"]]]
            stage["estimate"] = outlook.describe()
        print_json(described)
    else:
        draw(made, all_settings)
        for name, probes in found.items():
            draw_probe(name if len(found) > 1 else "", probes)
        for stage, outlook in zip(made.stages, outlooks, strict=True):
            plan_estimate.draw(stage.name if len(outlooks) > 1 else "", outlook, by_module=not probe)
    for outlook in outlooks:
        outlook.check()
    if as_json:
        return
    options = {"--all shows the defaults too": all_settings, "--probe what moves": probe}
    hint = ", ".join(option for option, given in options.items() if not given)
    next_steps(
        f"tunesmith run {recipe}{''.join(f' --set {item}' for item in sets or ())}{f'  ({hint})' if hint else ''}"
    )


def draw(made: Plan, all_settings: bool = False) -> None:
    """Print a plan as one table a stage."""
    from rich import box
    from rich.table import Table

    console = data_console()
    run = made.run
    threads = f" · {run.threads} threads" if run.threads else ""
    console.print(safe(f"runs in {run.folder}/ · seed {run.seed} · device {run.device}{threads}", "dim"))
    for stage in made.stages:
        table = Table(box=box.SIMPLE_HEAD, title_justify="left", padding=(0, 1), expand=False)
        if len(made.stages) > 1:
            table.title = safe(f"stage {stage.name}", "bold")
        table.add_column("part", style="cyan", no_wrap=True)
        table.add_column("use", no_wrap=True)
        table.add_column("settings")
        for part, shown, settings in _rows(stage, all_settings):
            table.add_row(safe(part), safe(shown), safe(settings))
        console.print(table)
        for note in stage.notes():
            console.print(safe(f"{note['kind']} {note['name']}: {note['note']}"))
    if made.launcher:
        console.print(safe(f"launched by {_named(made.launcher)}"))
    console.print(safe("plugins: " + ", ".join(f"{name} {version}" for name, version in made.plugins.items()), "dim"))


def _rows(stage: StagePlan, all_settings: bool) -> Iterator[tuple[str, str, str]]:
    def row(part: str, use: Use) -> tuple[str, str, str]:
        return part, _named(use), _settings(use, all_settings)

    yield from _data("data", stage.data, all_settings)
    single = len(stage.roles) == 1
    for role in stage.roles.values():
        prefix = "" if single else f"{role.role.name}: "
        yield from ((f"{prefix}{part}", shown, settings) for part, shown, settings in _line(role, all_settings))
    yield row("trainer", stage.trainer)
    for use in stage.evaluators:
        yield row("evaluate", use)
        for role in use.roles.values():
            for part, shown, settings in _line(role, all_settings):
                yield f"  {role.role.name}: {part}", shown, settings
    for use in stage.exporters:
        yield row("export", use)


def _data(part: str, use: Use, all_settings: bool) -> Iterator[tuple[str, str, str]]:
    """A loader, what it combines, and its steps."""
    yield part, _named(use), _settings(use, all_settings)
    for name, source in use.sources.items():
        yield from _data(f"{part}: {name}", source, all_settings)
    for step in use.steps:
        yield f"{part}: step", _named(step), _settings(step, all_settings)


def _line(role: RolePlan, all_settings: bool) -> Iterator[tuple[str, str, str]]:
    if role.shares:
        yield "model", f"that of {role.shares}", "with its adapter disabled"
    if role.stage:
        carried = "goes on with its adapter" if role.carry == "continue" else "its adapter merged first"
        yield "model", f"stage {role.stage}", carried
    for part, use in (("model", role.model), ("quantizer", role.quantizer), ("adapter", role.adapter)):
        if use:
            yield part, _named(use), _settings(use, all_settings)


def _named(use: Use) -> str:
    return use.component.name


def _settings(use: Use, all_settings: bool) -> str:
    shown = []
    for item in fields(use.settings):
        value = getattr(use.settings, item.name)
        default: Any = item.default_factory() if item.default_factory is not MISSING else item.default
        if all_settings or default is MISSING or value != default:
            shown.append(f"{item.name}={_value(value)}")
    return "  ".join(shown)


def _value(value: Any) -> str:
    text = str(value)
    return repr(text) if isinstance(value, str) and (" " in text or not text) else text
