"""Folders and files that are either wholly there or not there at all.

A folder is committed by staging -> digests -> fsync -> one rename -> fsync of the parent. What is read
back is verified against its digests first. After a crash the old content or the new is found, never
neither; staging folders left by a kill are removed at the next start.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tunesmith.disks import DISK_ERRORS as DISK_ERRORS
from tunesmith.disks import disk_errors, possible
from tunesmith.disks import errno_of as errno_of
from tunesmith.errors import TunesmithError
from tunesmith.secrets import redact, redacted
from tunesmith.staging import OLD, STAGING, alone, staging_file, staging_folder, sweep

DIGESTS = "digests.json"
PINNED = "pinned.json"
TAKEN = {errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT}  # what a rename says of a name that another process just changed


def sha256_file(path: Path) -> str:
    """The sha256 of a file's content, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def fsync(path: Path) -> None:
    """Force a file or a folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Make a folder and those above it that are not there, durably."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        fsync(path.parent)


def write_file(path: Path, text: str) -> None:
    """Replace a file atomically and durably; secrets are struck out of the text."""
    temporary = staging_file(path)
    with disk_errors(path, len(text)):
        try:
            # a lone surrogate (out of somebody's data) becomes \\udXXX, which is its escape in JSON
            with temporary.open("w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(redact(text))
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        fsync(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file atomically and durably."""
    write_file(path, json.dumps(redacted(value), indent=2, ensure_ascii=False) + "\n")


def parse_json(text: str | bytes) -> Any:
    """The value that a JSON text holds.

    Raises:
        ValueError: it is no JSON, or nested too deeply to be read.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def digests_of(folder: Path) -> dict[str, str]:
    """sha256 of every file below `folder`, by relative path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / DIGESTS)
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in files}


def commit_folder(target: Path, build: Callable[[Path], None]) -> Path:
    """Make `target` appear complete or not at all.

    Args:
        target: the folder to make; if it exists it is replaced.
        build: called with an empty staging folder beside `target`, which it fills.

    Raises:
        DiskError: what was there before is still there.
    """
    with disk_errors(target) as disk, _staging(target) as staging:
        try:
            build(staging)
            # no newline at the end: then every cut, of one byte even, leaves no JSON
            (staging / DIGESTS).write_text(json.dumps(digests_of(staging), indent=1), encoding="utf-8")
            for path in staging.rglob("*"):
                fsync(path)
            fsync(staging)
            _put(staging, target)
        except BaseException:
            # before the staging folder goes: afterwards the disk is no longer as full as it was
            disk.look(sum(path.stat().st_size for path in staging.rglob("*") if path.is_file()))
            raise
    return target


def _put(staging: Path, target: Path) -> None:
    """Give a staging folder the name of its target; what had that name is gone afterwards."""
    replaced = target.parent / f"{OLD}{target.name}-{os.getpid()}"
    while True:
        try:
            if target.exists():
                shutil.rmtree(replaced, ignore_errors=True)
                os.rename(target, replaced)
            os.rename(staging, target)
            break
        except BaseException as error:
            if isinstance(error, OSError) and error.errno in TAKEN and staging.is_dir():
                continue  # another process took the name, or took it away, at this moment
            if replaced.exists() and not target.exists():
                os.rename(replaced, target)
            raise
    fsync(target.parent)
    shutil.rmtree(replaced, ignore_errors=True)  # committed: what is left goes at the next start


@contextmanager
def _staging(target: Path) -> Iterator[Path]:
    """An empty staging folder for a target, and what is above it.

    Raises:
        DiskError: a file is in the way, or this user may not write there.
    """
    with ExitStack() as stack:
        with possible(target):
            make_folder(target.parent)
            staging = stack.enter_context(staging_folder(target))
        yield staging


def make_once(
    target: Path,
    build: Callable[[Path], None],
    usable: Callable[[Path], bool] | None = None,
    say: Callable[[str], None] | None = None,
) -> Path:
    """Make a folder that processes share, unless it is there: of those that want it at a time one makes it.

    Args:
        target, build: as `commit_folder`.
        usable: whether the folder that is there will do; default: it verifies.
        say: hears it when this process waits for another one.

    Raises:
        DiskError: it cannot be made.
    """

    def waiting() -> None:
        if say is not None:
            say(f"another process makes {target.name[:16]} now; waiting for it")

    with ExitStack() as stack:
        with disk_errors(target), possible(target):
            make_folder(target.parent)
            stack.enter_context(alone(target, waiting))
        if target.is_dir() and (usable(target) if usable else not damage(target)):
            return target
        sweep(target.parent)
        return commit_folder(target, build)


def damage(folder: Path) -> list[str]:
    """What is wrong with a committed folder; an empty list when every digest verifies."""
    try:
        expected = parse_json((folder / DIGESTS).read_text(encoding="utf-8"))
        if not isinstance(expected, dict):
            raise ValueError("not an object")
    except (OSError, ValueError) as error:
        return [f"{DIGESTS}: {error}"]
    problems = []
    for name, digest in expected.items():
        try:
            path = folder / name
            if path.is_symlink() or not path.resolve().is_relative_to(folder.resolve()):
                problems.append(f"{name}: leads out of the folder")
            elif not path.is_file():
                problems.append(f"{name}: missing")
            elif sha256_file(path) != digest:
                problems.append(f"{name}: its content changed since it was written")
        except (OSError, ValueError) as error:  # a device that fails, a name that no file can have
            problems.append(f"{name!r}: {error}")
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or path.is_file()}
    problems.extend(
        f"{name}: was not there when it was written" for name in sorted(present - set(expected) - {DIGESTS})
    )
    return problems


def verify(folder: Path) -> None:
    """Check a committed folder against its digests.

    Raises:
        TunesmithError: with each file that is missing or changed.
    """
    problems = damage(folder)
    if problems:
        raise TunesmithError(
            f"{folder} is damaged",
            where=str(folder),
            details=problems,
            fix="Restore it from a copy, or make it again.",
        )


def clean_staging(folder: Path) -> None:
    """Remove what a kill left half-made, and put back what it caught between two renames."""
    for path in sorted(folder.glob(f"{STAGING}*")):
        name = path.name.removeprefix(STAGING)
        if name.startswith("old-"):
            target = path.parent / name.removeprefix("old-").rsplit("-", 1)[0]
            if not target.exists():
                os.rename(path, target)
                continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def checkpoint_step(path: Path) -> int:
    """The step in a checkpoint's name `step-000100`; -1 for anything else."""
    head, _, digits = path.name.partition("-")
    return int(digits) if head == "step" and digits.isdigit() else -1


def checkpoints(folder: Path) -> list[Path]:
    """Committed checkpoints below `folder`, oldest step first."""
    found = [path for path in folder.glob("step-*") if path.is_dir() and checkpoint_step(path) >= 0]
    return sorted(found, key=checkpoint_step)


def newest_good(folder: Path, say: Callable[[str], None]) -> Path | None:
    """The newest checkpoint that verifies; those that do not are set aside, and `say` hears which and why.

    A damaged one is renamed to `damaged-step-000100`: as a checkpoint it would push good ones out when they rotate.
    """
    for path in reversed(checkpoints(folder)):
        problems = damage(path)
        if not problems:
            return path
        aside = path.with_name(f"damaged-{path.name}")
        shutil.rmtree(aside, ignore_errors=True)
        os.rename(path, aside)
        say(f"checkpoint {path.name} is damaged ({'; '.join(problems[:3])}); set aside, trying the one before")
    return None


def pin(checkpoint: Path, reason: str) -> None:
    """Keep a checkpoint for good, however many come after it; `reason` says why."""
    write_json(checkpoint.parent / PINNED, {**pins(checkpoint.parent), checkpoint.name: reason})


def pins(folder: Path) -> dict[str, str]:
    """The names of the checkpoints below `folder` that are kept for good, and why."""
    try:
        found = json.loads((folder / PINNED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}  # nothing was pinned; the file is replaced in one rename, so it is never half there
    return found if isinstance(found, dict) else {}


def rotate(folder: Path, keep: int, pinned: Sequence[Path] = ()) -> list[Path]:
    """Remove all but the newest `keep` checkpoints (by step number, at least one) and the pinned ones (`pin`, too)."""
    removed = []
    kept = {*pins(folder), *(path.name for path in pinned)}
    with disk_errors(folder, 0):
        for path in checkpoints(folder)[: -max(1, keep)]:
            if path.name not in kept:
                doomed = folder / f"{STAGING}{path.name}"
                os.rename(path, doomed)
                fsync(folder)  # or a power loss could bring the name back over files that are gone
                shutil.rmtree(doomed)
                removed.append(path)
    return removed
