"""Files that can be read to their end: no pipe, socket or device, which may never answer."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from tunesmith.errors import DataError

KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def check_ordinary(path: Path) -> None:
    """Refuse what is no file and no folder; what is not there is somebody else's matter.

    Raises:
        DataError: what it is.
    """
    try:
        kind = KINDS.get(stat.S_IFMT(os.stat(path).st_mode))
    except (OSError, ValueError):
        return
    if kind:
        raise DataError(
            f"this is {kind}, not a file: it may never end",
            where=str(path),
            fix="Write what it gives to a file, and name that.",
        )


def check_ordinary_files(folder: Path) -> None:
    """Refuse a folder in which something is no file and no folder.

    Raises:
        DataError: the first, and what it is.
    """
    for path in sorted(folder.iterdir()):
        check_ordinary(path)
