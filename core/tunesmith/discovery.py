"""Where plugins come from: installed distributions, local files, and the list of those switched off."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType

import tomli

from tunesmith.disks import disk_errors, possible
from tunesmith.errors import MissingError, RecipeError, message_of
from tunesmith.places import disabled_file
from tunesmith.staging import alone, sweep
from tunesmith.store import write_file

GROUP = "tunesmith"
LOCAL = "local"  # the distribution of plugins that are files or objects


@dataclass(frozen=True)
class Plugin:
    """One module that yields records, and where it comes from."""

    name: str
    distribution: str
    version: str
    location: str = ""


@dataclass(frozen=True)
class Problem:
    """A plugin, or a part of one, that cannot be used."""

    plugin: Plugin
    reason: str
    disabled: bool = False


def entry_points(problems: list[Problem]) -> Iterator[tuple[Plugin, metadata.EntryPoint]]:
    """The entry points of the group; of a distribution that is on the path twice the first counts.

    `importlib.metadata.entry_points()` raises when the metadata of any one distribution is damaged (a line without
    an equals sign, an installation that was cut short); here that distribution becomes a Problem.
    """
    seen: set[str] = set()
    for distribution in metadata.distributions():
        name = ""
        try:
            name = distribution._normalized_name  # type: ignore[attr-defined]  # the folder's name: reads no file
            if name in seen:
                continue
            seen.add(name)
            text = distribution.read_text("entry_points.txt")
            if not text or f"[{GROUP}]" not in text:
                continue
            about = distribution.metadata  # each reading of it parses the file anew
            called, version = about["Name"], about["Version"]
            if not isinstance(called, str) or not isinstance(version, str):
                raise ValueError("it has no name or no version")
            for point in distribution.entry_points:
                if point.group == GROUP:
                    yield Plugin(point.name, called, version, point.value), point
        except Exception as error:
            plugin = Plugin(normal(name) or "unknown", normal(name) or "unknown", "0")
            problems.append(Problem(plugin, f"its metadata is damaged: {type(error).__name__}: {message_of(error)}"))


def normal(name: str) -> str:
    return name.strip().lower().replace("_", "-")


def importable(name: str) -> bool:
    if name in sys.modules:
        return True
    try:
        # a dotted name would import its parent; the top level is enough to know
        return importlib.util.find_spec(name.partition(".")[0]) is not None
    except (ImportError, ValueError):
        return False


def import_file(path: Path) -> ModuleType:
    name = f"tunesmith_local_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise MissingError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # so that "tunesmith_local_NAME:callable" resolves
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def blocked_by_environment() -> list[str]:
    return [name for name in os.environ.get("TUNESMITH_DISABLE", "").split(",") if name.strip()]


def disabled_plugins() -> list[str]:
    """The plugins that the person has switched off for good."""
    path = disabled_file()
    if not path.is_file():
        return []
    try:
        names = tomli.loads(path.read_text(encoding="utf-8")).get("disabled", [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError("`disabled` must be a list of names")
    except (OSError, ValueError) as error:
        raise RecipeError(
            f"cannot read the list of disabled plugins: {error}", where=str(path), fix="Mend or remove that file."
        ) from error
    return names


def set_disabled(name: str, disabled: bool) -> list[str]:
    """Switch a plugin off or on for good; returns the names that are off now."""
    path = disabled_file()
    with disk_errors(path), possible(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        with alone(path):  # of two processes the second one reads what the first one wrote
            sweep(path.parent, path.name)
            names = {other for other in disabled_plugins() if normal(other) != normal(name)}
            if disabled:
                names.add(name)
            write_file(path, f"disabled = {json.dumps(sorted(names))}\n")
    return sorted(names)
