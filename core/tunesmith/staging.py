"""What is being made: held by its process, so that what a kill left is told from what another process is making.

A folder that is filled is locked (`flock`) until it is committed. The lock goes with the process, however it ends: a
folder that can be locked was left behind. Where a file system has no locks, the process's number in the name decides.
"""

from __future__ import annotations

import fcntl
import glob
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

STAGING = ".staging-"
OLD = f"{STAGING}old-"  # what a committed folder replaced
SCRATCH = "tunesmith-scratch-"
LOCK = ".lock-"


def staging_file(path: Path) -> Path:
    """Where a file is written before it is renamed to `path`: another place in every process and thread."""
    thread = threading.get_native_id()
    other = "" if thread == os.getpid() else f".{thread}"
    return path.with_name(f"{STAGING}{path.name}{other}-{os.getpid()}")


@contextmanager
def staging_folder(target: Path) -> Iterator[Path]:
    """An empty folder beside `target` to fill, held by this process; what is left of it at the end is removed.

    Raises:
        OSError: it cannot be made there.
    """
    sweep(target.parent, target.name)
    staging, held = _made(target)
    try:
        yield staging
    finally:
        shutil.rmtree(staging, ignore_errors=True)
        os.close(held)


def _made(target: Path) -> tuple[Path, int]:
    for number in count():
        staging = target.parent / f"{STAGING}{target.name}-{os.getpid()}{number or ''}"
        with suppress(FileExistsError):  # of a process of this number elsewhere, or of another thread
            staging.mkdir()
            held = _held(staging)
            if held is not None:
                return staging, held
    raise AssertionError("numbers do not end")


@contextmanager
def scratch() -> Iterator[Path]:
    """An empty folder among the temporary files, removed at the end; those of processes that were killed go first."""
    place = Path(tempfile.gettempdir())
    for path in left_in_scratch():
        remove(path)
    while True:
        folder = Path(tempfile.mkdtemp(prefix=SCRATCH, dir=place))
        held = _held(folder)
        if held is not None:
            break
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(held)


def left_in_scratch() -> list[Path]:
    """This user's folders among the temporary files whose process was killed."""
    found = []
    for path in sorted(Path(tempfile.gettempdir()).glob(f"{SCRATCH}*")):
        with suppress(OSError):  # gone meanwhile
            if path.lstat().st_uid == os.getuid() and is_left(path):
                found.append(path)
    return found


@contextmanager
def alone(target: Path, waiting: Callable[[], None] | None = None) -> Iterator[None]:
    """Be the only process at `target`; where another one is, `waiting` is called once, and this one waits for it.

    The lock is a file beside the target that is removed with it.

    Raises:
        OSError: no file can be made there.
    """
    path = target.with_name(f"{LOCK}{target.name}")
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if waiting is not None:
                    waiting()
                    waiting = None
                fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:
            # a file system without locks: then the one rename of a commit is what keeps two apart
            break
        except BaseException:
            os.close(descriptor)
            raise
        if _same(descriptor, path):
            break
        os.close(descriptor)  # the one before removed it while this one waited
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def sweep(folder: Path, name: str = "*") -> list[Path]:
    """Remove what killed processes left half-made in a folder, and put back what they caught between two renames.

    Args:
        name: of what they made; default: of anything.

    Returns:
        what was removed or put back.
    """
    found = left_in(folder, name)
    for path in found:
        remove(path)
    return found


def left_in(folder: Path, name: str = "*") -> list[Path]:
    """What killed processes left half-made in a folder."""
    patterns = (
        [f"{STAGING}*", f"{LOCK}*"] if name == "*" else [f"{start}{glob.escape(name)}-*" for start in (STAGING, OLD)]
    )
    found = {path for pattern in patterns for path in folder.glob(pattern)}
    return sorted(path for path in found if is_left(path))


def remove(path: Path) -> None:
    """Remove what was left half-made; a folder that was replaced by nothing yet gets its name back."""
    if path.name.startswith(OLD):
        target = path.parent / path.name.removeprefix(OLD).rpartition("-")[0]
        if not os.path.lexists(target):
            with suppress(OSError):  # another process was faster
                os.rename(path, target)
            return
    if path.name.startswith(LOCK):
        held = _held(path)
        if held is not None:
            path.unlink(missing_ok=True)
            os.close(held)
    elif path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def is_left(path: Path) -> bool:
    """Whether no process makes this any more."""
    if (not path.name.startswith(LOCK) and not path.is_dir()) or path.is_symlink() or path.name.startswith(OLD):
        return not _alive(path)
    try:
        held = _held(path)
    except OSError:
        return False  # gone meanwhile, or another user's
    if held is None:
        return False
    os.close(held)
    return True


def _held(folder: Path) -> int | None:
    """A descriptor that holds a folder until it is closed; None where another process holds or removed it.

    Raises:
        OSError: this user may not read it.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:  # a file system without locks
        if _alive(folder, but_this=True):
            os.close(descriptor)
            return None
    if not _same(descriptor, folder):
        os.close(descriptor)
        return None
    return descriptor


def _same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _alive(path: Path, but_this: bool = False) -> bool:
    """Whether the process whose number ends the name is there; `but_this`: one that is not this one."""
    digits = path.name.rpartition("-")[2]
    if not digits.isdigit() or int(digits) >= 1 << 31:
        return False
    if int(digits) == os.getpid():
        return not (but_this or path.name.startswith(OLD))
    with suppress(PermissionError):  # another user's: it is there
        try:
            os.kill(int(digits), 0)
        except ProcessLookupError:
            return False
    return True
