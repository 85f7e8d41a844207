"""What a loader's table holds besides its settings: the steps that prepare its rows, the loaders that it combines."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from tunesmith.errors import RecipeError
from tunesmith.locate import KeyPath
from tunesmith.plan import Use
from tunesmith.recipe import dotted
from tunesmith.registry import Entry
from tunesmith.spec import Loader

if TYPE_CHECKING:
    from tunesmith.planner import Planner


def take_steps(planner: Planner, loader: Loader, settings: dict[str, Any], path: KeyPath) -> tuple[Use, ...]:
    """The steps of a loader, which leave its settings; a loader may have a setting of that name itself.

    Raises:
        RecipeError, MissingError: a step is unknown, or its settings are wrong.
    """
    if "steps" not in settings or "steps" in {item.name for item in fields(loader.settings)}:
        return ()
    return planner.each("step", {"steps": settings.pop("steps")}, "steps", path)


def take_sources(planner: Planner, entry: Entry, settings: dict[str, Any], path: KeyPath) -> dict[str, Use]:
    """The loaders that a loader combines, by name, which leave its settings.

    Raises:
        RecipeError, MissingError: there is none, or one of them is wrong.
    """
    assert isinstance(entry.component, Loader)
    if not entry.component.sources:
        return {}
    named = planner.table(settings, "sources", path)
    if not named:
        raise RecipeError(
            f"loader {entry.component.name!r} combines others, and [{dotted((*path, 'sources'))}] names none",
            where=planner.recipe.where(*path),
            fix=f'Add one or more, such as [{dotted((*path, "sources", "NAME"))}] with use = "jsonl".',
        )
    settings.pop("sources")
    return {name: planner.use("loader", table, (*path, "sources", name)) for name, table in named.items()}
