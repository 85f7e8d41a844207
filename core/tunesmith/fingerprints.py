"""What decides a stage's result: its settings, and the content of every file that they name."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tunesmith.context import cache_folder
from tunesmith.files.digests import sha256_of
from tunesmith.guard import guarded, wrong_type
from tunesmith.plan import StagePlan, Use
from tunesmith.spec import Model

#: A setting that names something in a local file, such as a function.
IN_FILE = re.compile(r".+\.py:[A-Za-z_]\w*\Z")


def fingerprint(stage: StagePlan, seed: int, earlier: Mapping[str, str], *, repetition: int = 0) -> str:
    """sha256 over everything that decides a stage's result.

    Args:
        stage: with its `files`.
        earlier: the fingerprints of the stages that it starts from.
    """
    description = stage.describe()
    del description["notes"]  # they depend on the machine, and decide nothing
    description["evaluate"] = [use for use in description["evaluate"] if "implied" not in use]
    description["seed"] = [seed, repetition] if repetition else seed
    description["stages"] = dict(earlier)
    return hashlib.sha256(json.dumps(description, sort_keys=True, default=str).encode()).hexdigest()


def deciding_files(stage: StagePlan, folder: Path) -> dict[str, str]:
    """The digests of the files that a stage's result depends on, by the settings that name them.

    Args:
        folder: where relative paths in the settings start.

    Raises:
        TunesmithError: a file cannot be read; a plugin's own account of its model fails.
    """
    files: dict[str, str] = {}
    for use in stage.uses():
        files |= {str(named): _digest(path) for named in _paths(asdict(use.settings)) if (path := _at(folder, named))}
        if isinstance(use.component, Model):
            files |= {f"{_source(use)}: {name}": value for name, value in _of_model(use, folder).items()}
    return files


def _of_model(use: Use, folder: Path) -> Mapping[str, str]:
    """What decides the model that `use` loads, by name."""
    component = use.component
    assert isinstance(component, Model)
    if not component.identity:
        named = (Path(value) for value in asdict(use.settings).values() if isinstance(value, str) and value)
        places = [path for name in named if (path := _at(folder, name, folders=True))]
        return {str(file): _digest(file) for place in places for file in _below(place)}
    with guarded(use):
        found = component.resolve("identity")(use.settings, folder, _digest)
    if not isinstance(found, Mapping):
        raise wrong_type(use, "a mapping of names to digests", found)
    return found


def _source(use: Use) -> str:
    """How messages call the model that a source loads."""
    return str(getattr(use.settings, "source", use.component.name))


def _below(place: Path) -> list[Path]:
    return sorted(path for path in place.rglob("*") if path.is_file()) if place.is_dir() else [place]


def _digest(path: Path) -> str:
    return sha256_of(path, cache_folder())


def _at(folder: Path, named: Path, *, folders: bool = False) -> Path | None:
    """The file (or folder) that a setting means; None where there is none."""
    try:
        path = folder / named.expanduser()
        return path if path.is_file() or (folders and path.is_dir()) else None
    except (OSError, RuntimeError, ValueError):  # a name that no file can have, a user that there is not
        return None


def _paths(value: Any) -> Iterator[Path]:
    """The paths in settings, in lists and tables too; `file.py:name` names its file."""
    if isinstance(value, Path):
        yield value
    elif isinstance(value, str) and IN_FILE.match(value):
        yield Path(value.rpartition(":")[0])
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _paths(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _paths(item)
