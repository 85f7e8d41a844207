"""`tunesmith plugins show`: a component, its settings and what they mean."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.padding import Padding
from rich.text import Text

from tunesmith.console.opened import AsJson, Files
from tunesmith.console.out import data_console, next_steps, print_json, safe
from tunesmith.errors import MissingError, nearest
from tunesmith.registry import Entry, Registry
from tunesmith.schema import Field, describe_settings
from tunesmith.spec import Adapter, Evaluator, Trainer
from tunesmith.static import dataclass_fields


def show(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A component, such as lora, or a plugin.")],
    kind: Annotated[
        str | None, typer.Option("--kind", metavar="KIND", help="Only this kind, when a name is used by several.")
    ] = None,
    file: Files = None,
    as_json: AsJson = False,
) -> None:
    """Show the settings of a component with type, default and meaning; of a plugin, all its components."""
    registry = ctx.obj.registry(file or ())
    entries = _find(registry, name, kind)
    described = [describe(entry) for entry in entries]
    if as_json:
        print_json(described)
        return
    for item in described:
        _draw(item)
    next_steps(f"tunesmith plugins check {name}", "tunesmith init")


def describe(entry: Entry) -> dict[str, Any]:
    """A component as plain data."""
    component = entry.component
    shown: dict[str, Any] = {
        "name": component.name,
        "kind": component.kind,
        "summary": component.summary,
        "distribution": entry.plugin.distribution,
        "version": entry.plugin.version,
        "qualified": entry.qualified,
        "missing": entry.missing(),
        "requires": list(component.requires),
        "settings": [asdict(field) for field in describe_settings(component.settings)],
    }
    if isinstance(component, (Trainer, Evaluator)):
        shown["accepts"] = list(component.accepts)
        shown["roles"] = [asdict(role) for role in component.roles]
    if isinstance(component, Trainer):
        shown["arguments"] = component.arguments or None
        shown["argument_names"] = dataclass_fields(component.arguments) if component.arguments else None
    if isinstance(component, Adapter):
        shown["identity"], shown["merges"] = component.identity, component.merges
    return shown


def _find(registry: Registry, name: str, kind: str | None) -> list[Entry]:
    """The components of that name, or else those of the plugin of that name.

    Raises:
        MissingError: there is neither.
    """
    entries = registry.entries(kind)
    found = [entry for entry in entries if name in (entry.component.name, entry.qualified)]
    wanted = name.lower().replace("_", "-")
    found = found or [entry for entry in entries if wanted in (_normal(entry), entry.plugin.distribution.lower())]
    if found:
        return found
    for problem in registry.problems:
        if wanted in (problem.plugin.name.replace("_", "-"), problem.plugin.distribution.lower()):
            state = "disabled" if problem.disabled else "broken"
            fix = f"tunesmith plugins enable {problem.plugin.name}" if problem.disabled else "Mend or reinstall it."
            details = [] if problem.disabled else [problem.reason]
            raise MissingError(f"plugin {name!r} is {state}", details=details, fix=fix)
    near = nearest(name, sorted({entry.component.name for entry in entries}))
    raise MissingError(
        f"there is no {kind or 'component or plugin'} named {name!r} here",
        fix=f"Did you mean {near!r}?" if near else "`tunesmith plugins list` shows what is installed.",
    )


def _normal(entry: Entry) -> str:
    return entry.plugin.name.lower().replace("_", "-")


def _draw(item: dict[str, Any]) -> None:
    console = data_console()
    console.print(Text.assemble((f"{item['kind']} {item['name']}", "bold"), "  ", safe(item["summary"])))
    console.print(safe(f"from {item['distribution']} {item['version']}, also written {item['qualified']}", "dim"))
    if item["missing"]:
        console.print(safe(f"missing: {', '.join(item['missing'])}: pip install {item['distribution']}", "yellow"))
    for key, label in (("accepts", "takes rows of type"), ("roles", "models")):
        if item.get(key):
            names = [part if isinstance(part, str) else part["name"] for part in item[key]]
            console.print(safe(f"{label}: {', '.join(names)}"))
    if item.get("arguments"):
        names = item["argument_names"]
        count = f"its {len(names)} fields" if names else "its fields"
        console.print(safe(f"[trainer.arguments]: {count} of {item['arguments'].replace(':', '.')}"))
    if not item["settings"]:
        console.print("It takes no settings.")
        return
    width = max(len(field["name"]) for field in item["settings"])
    for field in item["settings"]:
        head = Text.assemble(("  " + field["name"].ljust(width), "cyan"), "  ", safe(field["type"]), "  ")
        console.print(head.append_text(_default(Field(**field))))
        console.print(Padding(safe(field["doc"] or "(not documented)", "dim"), (0, 0, 0, 6)))


def _default(field: Field) -> Text:
    if field.required:
        return Text("required", style="bold yellow")
    value = field.default
    if value is None:
        return Text("default none")
    if isinstance(value, bool):
        return Text(f"default {str(value).lower()}")
    if isinstance(value, (str, tuple, list, dict)) and not value:
        return Text("default empty")
    return safe(f"default {', '.join(map(str, value)) if isinstance(value, (tuple, list)) else value}")
