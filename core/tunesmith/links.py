"""Links in folders that hold only files of their own."""

from __future__ import annotations

import os
from pathlib import Path

from tunesmith.errors import DataError


def check_no_links(folder: Path) -> None:
    """Refuse a run folder with links in it: what is written to one would change a file elsewhere.

    Raises:
        DataError: naming the first.
    """
    for place, folders, files in os.walk(folder):
        for name in sorted((*folders, *files)):
            path = Path(place, name)
            if path.is_symlink():
                raise DataError(
                    f"{path} is a link to {os.readlink(path)}; a run folder holds only files of its own",
                    where=str(path),
                    fix="Do not use this folder if somebody sent it. If you made the link, put the files in its place.",
                )
