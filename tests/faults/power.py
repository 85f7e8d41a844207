"""What a power loss leaves: files that were not flushed are as before or empty, renames not made durable are undone."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from faults.calls import Call

TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')
DESCRIPTOR = re.compile(r"^\d+<([^>]*)>")
FOLDER = re.compile(r"(?:AT_FDCWD|\d+)<([^>]*)>")


@dataclass
class Disk:
    """Follows calls, and knows what of them is not on the disk yet.

    Args:
        root: only what is below it counts.
        dirty: files with content that was not flushed.
        pending: renames and new folders whose parent folder was not flushed, oldest first.
    """

    root: Path
    dirty: set[Path] = field(default_factory=set)
    pending: list[tuple[Path | None, Path]] = field(default_factory=list)

    def follow(self, calls: Sequence[Call]) -> None:
        for call in calls:
            if call.returned >= 0:
                self._follow(call)

    def _follow(self, call: Call) -> None:
        opened = DESCRIPTOR.match(call.arguments)
        if call.name in ("write", "pwrite64", "writev", "ftruncate") and opened:
            self.dirty |= {path for path in [Path(opened[1])] if path.is_relative_to(self.root)}
        elif call.name in ("fsync", "fdatasync") and opened:
            flushed = Path(opened[1])
            self.dirty.discard(flushed)
            self.pending = [entry for entry in self.pending if entry[1].parent != flushed]
        elif call.name == "openat" and ("O_CREAT" in call.arguments or "O_TRUNC" in call.arguments):
            self.dirty |= {path for path in self._paths(call) if path.is_relative_to(self.root)}
        elif call.name.startswith("mkdir"):
            self.pending += [(None, path) for path in self._paths(call) if path.is_relative_to(self.root)]
        elif call.name.startswith("rename"):
            source, target = self._paths(call)
            self.pending.append((source, target))
            self.dirty = {self._moved(path, source, target) for path in self.dirty}
        elif call.name.startswith(("unlink", "rmdir")):
            for path in self._paths(call):
                self.dirty.discard(path)

    @staticmethod
    def _paths(call: Call) -> list[Path]:
        """The paths among a call's arguments, each below the folder that is named before it."""
        found, base = [], Path()
        for part in re.finditer(f"{FOLDER.pattern}|{TEXT.pattern}", call.arguments):
            if part[2] is None:
                base = Path(part[1])
            else:
                found.append(base / part[2])
        return found

    @staticmethod
    def _moved(path: Path, source: Path, target: Path) -> Path:
        return target / path.relative_to(source) if path.is_relative_to(source) else path

    def fail(self, left: Path, before: Path) -> None:
        """Make of a folder what is still there when the power comes back.

        Args:
            left: a copy of `root` as the calls left it.
            before: a copy of `root` as it was before the first of them, all of it on the disk.
        """
        dirty = set(self.dirty)
        for source, target in reversed(self.pending):
            here = self._in(left, target)
            if source is None:
                shutil.rmtree(here, ignore_errors=True)
            elif here.exists():
                here.rename(self._in(left, source))
                dirty = {self._moved(path, target, source) for path in dirty}
                old = self._in(before, target)
                if old.is_file():
                    shutil.copy2(old, here)
        for path in dirty:
            here, old = self._in(left, path), self._in(before, path)
            if here.is_file():
                here.write_bytes(old.read_bytes() if old.is_file() else b"")

    def _in(self, place: Path, path: Path) -> Path:
        return place / path.relative_to(self.root)
