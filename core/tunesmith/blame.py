"""Whose fault an exception is that a component let out: its plugin's own, or a value that a library refuses."""

from __future__ import annotations

import sysconfig
import traceback
from importlib.util import find_spec
from pathlib import Path

from tunesmith.errors import MissingError, PluginError, message_of
from tunesmith.spec import Component

#: Where a recipe sets each kind of component.
TABLES = {"loader": "[data]", "step": "[[data.steps]]", "evaluator": "[[evaluate]]", "exporter": "[[export]]"}


def failure(component: Component, distribution: str, version: str, error: BaseException) -> PluginError | MissingError:
    """The error for an exception that a component let out.

    An exception that its plugin's own code raised is a defect of that plugin. One out of a library may as well come of
    a value in the recipe, or of a package that a setting asks for: then the place to look at is named first.
    """
    named = f"{component.kind} {component.name!r} of {distribution} {version}"
    table = TABLES.get(component.kind, f"[{component.kind}]")
    if absent := _absent(error):
        return MissingError(
            f"{named} needs the package {absent!r}, which is not installed here: {_first_line(error)}",
            fix=f"Install it with pip, or leave out the setting in {table} that asks for it.",
        )
    last = traceback.extract_tb(error.__traceback__)[-1:]
    where = f"{last[0].filename}:{last[0].lineno}" if last else None
    library = _library(Path(last[0].filename), component) if last else None
    told = f"{type(error).__name__}: {message_of(error)}"
    if library is None:
        return PluginError(
            f"{named} failed: {told}",
            where=where,
            fix="This is a defect of that plugin; --debug shows the whole traceback.",
        )
    return PluginError(
        f"{named} stopped, since {library} refuses what it was given: {told}",
        where=where,
        fix=f"Compare the settings in {table}, and the files that they name, with what {library} takes. If they are as "
        "they should be, tell the authors of the plugin; --debug shows the whole traceback.",
    )


def _absent(error: BaseException) -> str | None:
    """The package whose import failed because it is not here."""
    name = getattr(error, "name", None)
    if not isinstance(error, ImportError) or not isinstance(name, str) or not name:
        return None
    top = name.partition(".")[0]
    try:
        return top if find_spec(top) is None else None
    except (ImportError, ValueError):  # a module without a specification is there
        return None


def _library(file: Path, component: Component) -> str | None:
    """The library that a file belongs to; None for a file of the plugin, of Tunesmith, or of nobody known."""
    installed = [place for place, part in enumerate(file.parts) if part in ("site-packages", "dist-packages")]
    if not installed:
        return "Python" if file.is_relative_to(sysconfig.get_path("stdlib")) else None
    top = file.parts[installed[-1] + 1].removesuffix(".py")
    own = component.factory.partition(":")[0].partition(".")[0] if isinstance(component.factory, str) else ""
    return None if top.startswith("tunesmith") or top == own else top


def _first_line(error: BaseException) -> str:
    return message_of(error).partition("\n")[0]
