"""The listing of the plugins, kept until something that it was made from changes.

Importing every plugin's settings costs far more than printing them. A kept listing is used only while all of
these are as they were: the interpreter, the search path and the times of its folders (a package that comes or
goes changes them), the plugins that are left out or switched off, and size and time of every file that was
imported to make it. A listing with a broken plugin is never kept: what would mend it is not known.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tunesmith.places import cache_folder, disabled_file

if TYPE_CHECKING:
    from pathlib import Path

    from tunesmith.registry import Registry

FORMAT = 1


def load(no_plugin: Sequence[str]) -> list[Any] | None:
    """The kept listing, or None when there is none that holds."""
    try:
        kept = json.loads(_file().read_bytes())
        if kept["about"] == _about(no_plugin) and all(_stamp(path) == stamp for path, stamp in kept["files"].items()):
            return kept["listing"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # none yet, or cut short: it is made again
    return None


def save(no_plugin: Sequence[str], registry: Registry, listing: list[Any]) -> None:
    """Keep a listing, unless it holds a broken plugin; a cache that cannot be written is done without."""
    from tunesmith.errors import DiskError
    from tunesmith.store import write_json

    if any(not problem.disabled for problem in registry.problems):
        return
    paths = [*(path or "." for path in sys.path), str(disabled_file()), *_imported()]
    kept = {
        "about": _about(no_plugin),
        "files": {path: _stamp(path) for path in dict.fromkeys(paths)},
        "listing": listing,
    }
    try:
        _file().parent.mkdir(parents=True, exist_ok=True)
        write_json(_file(), kept)
    except (OSError, DiskError):
        return


def _file() -> Path:
    # one a prefix, so that two environments do not take turns
    name = "".join(letter if letter.isalnum() else "-" for letter in sys.prefix).strip("-")
    return cache_folder() / "listings" / f"{name}.json"


def _about(no_plugin: Sequence[str]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "python": sys.version,
        "path": list(sys.path),
        "disabled": os.environ.get("TUNESMITH_DISABLE", ""),
        "no_plugin": sorted(no_plugin),
    }


def _imported() -> list[str]:
    """The files of the modules in use, but for the standard library's."""
    standard = os.path.dirname(os.__file__) + os.sep
    files = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    return sorted(
        {
            file
            for file in files
            if file and (not file.startswith(standard) or "-packages" in file.removeprefix(standard))
        }
    )


def _stamp(path: str) -> list[int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return [found.st_mtime_ns, found.st_size]
