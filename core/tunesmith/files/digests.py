"""Digests of large files, computed once as long as the file stays as it is.

A file is taken for unchanged when its size, inode and both of its times are those of the moment at which its digest was
computed, and when it was then at rest: a file that changed within the last seconds may change again inside one tick of
the clock, so its digest is not kept.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import suppress
from pathlib import Path

from tunesmith.store import sha256_file

WORTH_KEEPING = 16 << 20  # bytes; less is hashed in no time
AT_REST = 5.0  # seconds since the last change
FOLDER = "digests"  # of the cache


def sha256_of(path: Path, cache: Path) -> str:
    """The sha256 of a file's content, in hex; out of the cache where the file is as it was.

    Args:
        path: the file.
        cache: the folder for what may be computed again; one that cannot be written is not used.
    """
    stat = path.stat()
    if stat.st_size < WORTH_KEEPING:
        return sha256_file(path)
    state = [stat.st_size, stat.st_ino, stat.st_dev, stat.st_mtime_ns, stat.st_ctime_ns]
    place = cache / FOLDER / f"{hashlib.sha256(os.fsencode(path.absolute())).hexdigest()[:32]}.json"
    kept = _read(place)
    if kept is not None and kept[0] == state:
        return kept[1]
    digest = sha256_file(path)
    if time.time() - max(stat.st_mtime, stat.st_ctime) > AT_REST and path.stat().st_ctime_ns == stat.st_ctime_ns:
        _write(place, json.dumps([state, digest]))
    return digest


def _read(place: Path) -> tuple[list[int], str] | None:
    """What an entry says; None where there is none, or it says nothing."""
    try:
        state, digest = json.loads(place.read_text(encoding="ascii"))
    except (OSError, ValueError, TypeError):
        return None
    return (state, digest) if isinstance(digest, str) and len(digest) == 64 else None


def _write(place: Path, text: str) -> None:
    """Keep an entry, whole or not at all; a cache that cannot be written costs time and nothing else."""
    staging = place.with_name(f".staging-{place.name}-{os.getpid()}-{time.monotonic_ns()}")
    with suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        staging.write_text(text, encoding="ascii")
        staging.replace(place)
    with suppress(OSError):
        staging.unlink(missing_ok=True)
