"""Values that no machine can have: refused where a recipe is read, before anything chokes on them."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from tunesmith.errors import RecipeError

LARGEST_INT = 2**63 - 1
LARGEST_FLOAT = 3.4028234663852886e38  # of 32 bits (IEEE 754), in which models compute
NAME_BYTES = 255  # of one part of a path; NAME_MAX of the usual file systems
PATH_BYTES = 4096  # of a whole path; PATH_MAX of Linux
DEVICES = re.compile(r"auto|cpu|mps|meta|[a-z][a-z0-9]*:\d{1,3}|cuda|xpu|npu|hpu|mlu|musa|xla|privateuseone")
NUMBER = "-001"  # what a run's folder gets behind its name

Place = tuple[str | int, ...]


def check_values(values: Any, where: Any, path: Place) -> None:
    """Refuse numbers and texts of a table that nothing here can hold.

    Args:
        values: the table, or a value in it.
        where: names the place of a key path, as `Recipe.where` does.
        path: the key path of `values`.

    Raises:
        RecipeError: for the first of them.
    """
    for place, value in _leaves(values, path):
        if (reason := _impossible(value)) is not None:
            raise RecipeError(f"{_dotted(place)} {reason}", where=where(*place), fix="Mend the value.")


def check_path(value: Path | str, where: str | None, name: str) -> None:
    """Refuse a path that no file can have.

    Raises:
        RecipeError: a name in it is too long, or it begins with a user that there is not.
    """
    if (reason := impossible_path(value)) is not None:
        raise RecipeError(f"{name} {reason}", where=where, fix="Mend the path.")


def check_paths(settings: Any, where: Any, path: Place) -> None:
    """`check_path` for every setting that is one.

    Args:
        settings: a dataclass.

    Raises:
        RecipeError: for the first that no file can have.
    """
    for item in fields(settings):
        if isinstance(named := getattr(settings, item.name), Path):
            check_path(named, where(*path, item.name), _dotted((*path, item.name)))


def impossible_path(value: Path | str) -> str | None:
    """Why no file can have this path, in words; None where one can."""
    text = os.fspath(value)
    if "\0" in text:
        return "holds a NUL character"
    encoded = os.fsencode(text)
    if len(encoded) > PATH_BYTES:
        return f"is a path of {len(encoded)} bytes; {PATH_BYTES} are the most"
    longest = max(map(len, encoded.split(b"/")))
    if longest > NAME_BYTES:
        return f"holds a name of {longest} bytes; {NAME_BYTES} are the most"
    if text.startswith("~"):
        try:
            Path(text).expanduser()
        except RuntimeError:
            return f"begins with {text.partition('/')[0]!r}, and there is no such user"
    return None


def check_run(name: str | None, device: str, where: Any) -> None:
    """Refuse a run's name that no folder can have, and a device of no known kind.

    Raises:
        RecipeError: says which.
    """
    if name is not None and len(os.fsencode(name + NUMBER)) > NAME_BYTES:
        most = NAME_BYTES - len(NUMBER)
        raise RecipeError(
            f"run.name has {len(os.fsencode(name))} bytes; a folder's name takes {most} and the run's number",
            where=where("run", "name"),
            fix="Shorten it.",
        )
    if not DEVICES.fullmatch(device):
        raise RecipeError(
            f"run.device = {device[:40]!r} is no device",
            where=where("run", "device"),
            fix='Write "auto", "cpu", "cuda", "cuda:N" or "mps".',
        )


def _impossible(value: Any) -> str | None:
    if isinstance(value, str):
        return "holds a NUL character" if "\0" in value else None
    if isinstance(value, bool):
        return None
    if isinstance(value, int) and abs(value) > LARGEST_INT:
        return f"is a number of {value.bit_length()} bits; 63 are the most"
    if isinstance(value, float):
        if not math.isfinite(value):
            return f"is {value}; a finite number is needed"
        if abs(value) > LARGEST_FLOAT:
            return f"= {value:g} is more than a number of 32 bits holds"
    return None


def _leaves(value: Any, path: Place) -> Iterator[tuple[Place, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield (*path, key), str(key)
            yield from _leaves(item, (*path, key))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _leaves(item, (*path, index))
    else:
        yield path, value


def _dotted(path: Place) -> str:
    return ".".join(str(part).replace("\0", "\\0") for part in path)
