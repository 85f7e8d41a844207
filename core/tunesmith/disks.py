"""What a disk says against a file: which disk it is, what was needed, what is free, and where to point instead."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tunesmith.errors import DiskError, message_of
from tunesmith.places import cache_folder, config_folder

DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS}


class Disk:
    """The disk that a file is written to.

    Args:
        path: what is written.
        needed: bytes that are to be written, where it is known before.
    """

    def __init__(self, path: Path, needed: int | None = None) -> None:
        self.path = path
        self._needed = "" if needed is None else _size(needed) if needed else "no new space"
        self._free = ""

    def look(self, written: int) -> None:
        """Note what is free now, before what was `written` (bytes) so far is taken back."""
        self._needed = f"more than {_size(written)}" if written else "a new folder"
        self._free = _free(self.path)

    def details(self) -> list[str]:
        """What was needed, what is free, and which disk that is."""
        needed = [f"needed: {self._needed}"] if self._needed else []
        return [*needed, f"free space there: {self._free or _free(self.path)}", f"that disk is {_disk(self.path)}"]


@contextmanager
def disk_errors(path: Path, needed: int | None = None) -> Iterator[Disk]:
    """Turn a full disk, an exceeded quota, a read-only or a damaged one into a `DiskError`.

    Args:
        needed: bytes that are to be written.
    """
    disk = Disk(path, needed)
    try:
        yield disk
    except Exception as error:
        number = errno_of(error)
        located = isinstance(error, DiskError) and error.where is not None  # it names a path already
        if number not in DISK_ERRORS or located:
            raise
        raise DiskError(
            f"cannot write {path}: {os.strerror(number)}", where=str(path), details=disk.details(), fix=advice(path)
        ) from error


@contextmanager
def possible(target: Path) -> Iterator[None]:
    """Turn what stands in the way of a folder, a file or missing rights, into a `DiskError`."""
    try:
        yield
    except OSError as error:
        if error.errno in DISK_ERRORS:
            raise
        raise DiskError(
            f"no folder can be made at {target}: {error.strerror or error}",
            where=str(target),
            fix="Name a folder in a place that this user can write.",
        ) from error


def errno_of(error: BaseException) -> int | None:
    """The operating system's error number behind an exception, as far as it can be told."""
    # safetensors wraps the operating system's error in its own class and keeps only the text
    current: BaseException | None = error
    while current is not None:
        if isinstance(current, OSError) and current.errno:
            return current.errno
        text = message_of(current)
        for number in DISK_ERRORS:
            if f"os error {number}" in text.lower() or os.strerror(number) in text:
                return number
        current = current.__cause__ or current.__context__
    return None


def advice(path: Path) -> str:
    """What to do when there is no room for a file: by what decides where it is."""
    for folder, variable in ((cache_folder(), "TUNESMITH_CACHE"), (config_folder(), "TUNESMITH_CONFIG")):
        if path.absolute().is_relative_to(folder.absolute()):
            return f"Free some space there, or set {variable} to a folder on another disk; then give the command again."
    if path.absolute().is_relative_to(Path(tempfile.gettempdir()).absolute()) and path.name.startswith("tunesmith-"):
        return "Free some space there, or set TMPDIR to a folder on another disk; then give the command again."
    return "Free some space (or choose another `[run] folder`), then `tunesmith resume` goes on."


def _size(count: int) -> str:
    return f"{count / 2**20:.1f} MiB" if count >= 2**20 else f"{count / 2**10:.1f} KiB"


def _existing(path: Path) -> Path:
    path = path.absolute()
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _free(path: Path) -> str:
    try:
        found = shutil.disk_usage(_existing(path))
    except OSError as error:
        return f"unknown ({error.strerror})"
    return f"{_size(found.free)} of {_size(found.total)}"


def _disk(path: Path) -> str:
    """Where the disk of a path is mounted."""
    try:
        place = _existing(path).resolve()
        while not os.path.ismount(place) and place != place.parent:
            place = place.parent
    except OSError as error:
        return f"unknown ({error.strerror})"
    return f"mounted at {place}"
