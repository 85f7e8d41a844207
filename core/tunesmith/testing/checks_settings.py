"""Checks of settings: documented, read, with defaults that their own constraints allow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any

from tunesmith.errors import RecipeError
from tunesmith.recipe import STAGE_KEYS, Recipe, check_settings, plain
from tunesmith.schema import describe_settings
from tunesmith.spec import Component, Preset, Settings
from tunesmith.testing.result import Failed, explain, listed
from tunesmith.testing.source import field_owner, names_read, package_files


def build(
    component: Component, tables: Sequence[Mapping[str, Any]]
) -> tuple[list[tuple[Settings, str]], list[tuple[bool, str]]]:
    """Build the settings to try a component with.

    Returns:
        The settings with a title each (empty for the defaults), and for every table whether it could be
        built, kept as text and read back unchanged, with a sentence.
    """
    trials: list[tuple[Settings, str]] = []
    outcomes: list[tuple[bool, str]] = []
    for table in tables:
        title = " ".join(f"{key}={value}" for key, value in table.items())
        try:
            settings = _checked(component, table)
        except _Required as required:
            adapts = component.kind == "adapter"
            hint = "; give an example: tunesmith_examples, or examples= in the test" if adapts else ""
            outcomes.append((not adapts, f"required: {required}{hint}"))
        except Failed as failure:
            outcomes.append((False, str(failure)))
        else:
            trials.append((settings, title))
            outcomes.append((True, f"built with {title or 'the defaults'}"))
    return trials, outcomes


class _Required(Exception):
    """Settings without a default that a table leaves out."""


def _checked(component: Component, table: Mapping[str, Any]) -> Settings:
    kind = component.settings
    absent = [
        item.name
        for item in fields(kind)
        if item.default is MISSING and item.default_factory is MISSING and item.name not in table
    ]
    if absent:
        raise _Required(", ".join(absent))
    recipe, path = Recipe({}), (component.kind,)
    try:
        settings = check_settings(kind, table, recipe, path)
        # defaults are checked by nobody when a recipe leaves them out, but an artifact stores them
        again = check_settings(kind, plain(settings), recipe, path)
    except RecipeError as error:
        raise Failed(f"its settings class refuses its own defaults or the example: {error.what}") from error
    except Exception as error:
        raise Failed(f"its settings class cannot be checked: {explain(error)}") from error
    changed = [item.name for item in fields(kind) if getattr(again, item.name) != getattr(settings, item.name)]
    if changed:
        raise Failed(f"stored as JSON and read back, {listed(changed)} is no longer the same")
    return settings


def documented(settings: type[Settings]) -> str:
    """Every field has a docstring under it."""
    described = describe_settings(settings)
    bare = [f"{field_owner(settings, item.name).__name__}.{item.name}" for item in described if not item.doc]
    if bare:
        raise Failed(f"no docstring under {listed(bare)}: say what it means and in which unit")
    return f"{len(described)} settings documented" if described else "it has no settings"


def read(component: Component, seen: set[str]) -> str:
    """Every field is read by somebody.

    Args:
        seen: the fields that were read while the component ran; the others are looked for in the source,
            since a setting may be read in a branch that was not taken.
    """
    names = [item.name for item in fields(component.settings)]
    modules = {
        component.factory.partition(":")[0] if isinstance(component.factory, str) else component.factory.__module__
    }
    modules |= {owner.__module__ for owner in component.settings.__mro__} - {"builtins", "tunesmith.spec"}
    files = sorted({file for module in modules for file in package_files(module)})
    found, whole = names_read(files, component.settings)
    unread = [] if whole else [name for name in names if name not in seen and name not in found]
    if unread:
        raise Failed(f"nothing reads {listed(unread)}: whoever sets it in a recipe is deceived")
    return (
        f"{len(names)} settings read, {len(seen & set(names))} of them while it ran" if names else "it has no settings"
    )


def watched(settings: Settings, seen: set[str]) -> Settings:
    """The same settings as an instance of a subclass that notes in `seen` which fields are read."""
    kind = type(settings)
    names = {item.name for item in fields(kind)}

    def read_attribute(self: Any, name: str) -> Any:
        if name in names:
            seen.add(name)
        return object.__getattribute__(self, name)

    # looking at settings as a whole, as messages do, is not using them
    silent = {"__repr__": lambda self: repr(settings), "__hash__": lambda self: hash(settings)}
    watching = type(
        kind.__name__, (kind,), {"__getattribute__": read_attribute, "__module__": kind.__module__, **silent}
    )
    copy: Any = object.__new__(watching)
    for name in names:
        object.__setattr__(copy, name, getattr(settings, name))
    return copy


def preset(component: Preset, settings: Settings) -> str:
    """A preset gives the same partial recipe every time, with tables that a stage may hold."""
    factory = component.resolve()
    partial, again = factory(settings), factory(settings)
    if not isinstance(partial, dict):
        raise Failed(f"it returned {type(partial).__name__}, not a partial recipe")
    unknown = [key for key in partial if key not in STAGE_KEYS]
    if unknown:
        raise Failed(f"its partial recipe holds {listed(unknown)}; a stage takes {', '.join(STAGE_KEYS)}")
    if partial != again:
        raise Failed("it gave two different partial recipes for the same settings")
    return f"gives {listed(list(partial))}"
