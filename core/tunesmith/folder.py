"""A run's folder: its lock, its state, its manifest, and the two logs."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import re
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO

from tunesmith.errors import DataError, LockedError
from tunesmith.links import check_no_links
from tunesmith.secrets import redact, redacted
from tunesmith.shape import problems
from tunesmith.store import disk_errors, fsync, parse_json, write_file, write_json

STATE = "state.json"
MANIFEST = "manifest.json"
RECIPE = "recipe.toml"
METRICS = "metrics.jsonl"
EVALUATIONS = "evaluations.jsonl"
EVENTS = "events.jsonl"
RESULTS = "results.json"
LOCK = "lock"
RESERVE = ".reserve"
RESERVED = 1 << 16  # bytes that are kept free for the last words of a run whose disk is full
LOCK_ATTEMPTS = 5

#: Libraries whose versions decide a result, as far as they are installed.
RECORDED = (
    "torch",
    "transformers",
    "peft",
    "trl",
    "accelerate",
    "datasets",
    "safetensors",
    "tokenizers",
    "bitsandbytes",
)


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass
class RunFolder:
    """One run folder, held by at most one process at a time."""

    path: Path
    _lock: TextIO | None = field(default=None, repr=False)
    _begun: float = field(default_factory=time.monotonic, repr=False)
    _appended: set[str] = field(default_factory=set, repr=False)

    @classmethod
    def create(cls, base: Path, name: str) -> RunFolder:
        """Make and lock the next free folder `NAME-001`, `NAME-002`, ... below `base`.

        Raises:
            DiskError: the place cannot be written.
        """
        safe = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-") or "run"
        check_writable(base)
        with _no_folder(base):
            base.mkdir(parents=True, exist_ok=True)
            number = max((taken for taken, _ in _numbered(base, safe)), default=0) + 1
            while True:
                path = base / f"{safe}-{number:03d}"
                try:
                    path.mkdir()  # exclusive: of two processes one gets the next number
                    fsync(base)
                    break
                except FileExistsError:
                    number += 1
        folder = cls(path)
        folder.lock()
        return folder

    @classmethod
    def open(cls, path: Path, *, look: bool = True) -> RunFolder:
        """An existing run folder.

        Args:
            look: refuse one whose files do not hold what was written there.

        Raises:
            DataError: `path` is no run folder, a link in it leads elsewhere, or a file of it is damaged.
        """
        if not cls.begun(path):
            raise DataError(f"{path} is not a run folder", where=str(path), fix="`tunesmith runs` lists them.")
        check_no_links(path)
        if look:
            check_shape(path)
        return cls(path)

    @staticmethod
    def begun(path: Path) -> bool:
        """Whether a run got as far in this folder that it can be gone on with."""
        return (path / MANIFEST).is_file() and (path / RECIPE).is_file()

    # --- lock ---------------------------------------------------------------------------------
    def lock(self) -> None:
        """Hold the folder until this process ends.

        Raises:
            LockedError: another process holds it: who, where, since when.
        """
        with _no_folder(self.path):
            file = (self.path / LOCK).open("a+", encoding="utf-8", errors="replace")
        for attempt in range(
            LOCK_ATTEMPTS
        ):  # somebody may hold it for an instant, to look at it or to write their name
            file.seek(0)
            holder = _parsed(file.read())
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                elsewhere = holder.get("host") not in (None, socket.gethostname()) and self.state["status"] == "running"
                break
            except BlockingIOError:
                elsewhere = True
                if attempt < LOCK_ATTEMPTS - 1:
                    time.sleep(0.02)
        if elsewhere:
            file.close()
            raise LockedError(
                f"run {self.path.name} is {_held(holder)}",
                where=str(self.path),
                fix="Wait for it to end. If that machine is gone for good, remove the file `lock` in the run folder.",
            )
        file.seek(0)
        file.truncate()
        json.dump({"pid": os.getpid(), "host": socket.gethostname(), "start": now()}, file)
        file.flush()
        self._lock = file

    def release(self) -> None:
        """Let go of the folder."""
        if self._lock is not None:
            self._lock.seek(0)
            self._lock.truncate()
            self._lock.close()
            self._lock = None

    def holder(self) -> dict[str, Any]:
        """Who holds the folder now; empty when nobody does."""
        path = self.path / LOCK
        if not path.is_file():
            return {}
        with path.open(encoding="utf-8", errors="replace") as file:
            holder = _parsed(file.read())
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return holder or {"pid": "?"}
            return holder if holder.get("host") not in (None, socket.gethostname()) else {}

    def in_use_beside(self) -> list[str]:
        """The runs of the same name that are held now, each with its holder, as a sentence says it."""
        stem = self.path.name.rpartition("-")[0]
        others = [path for _, path in sorted(_numbered(self.path.parent, stem)) if path != self.path]
        held = ((path.name, RunFolder(path).holder()) for path in others)
        return [f"{name} is {_held(holder)}" for name, holder in held if holder]

    # --- state --------------------------------------------------------------------------------
    @property
    def state(self) -> dict[str, Any]:
        """`status` is running, done, failed or stopped; a running one that nobody holds is interrupted."""
        return {"status": "unknown", **parsed_file(self.path / STATE)}

    @property
    def status(self) -> str:
        """The state's status, with `interrupted` for a run whose process is gone."""
        status = str(self.state["status"])
        return "interrupted" if status == "running" and not self.holder() else status

    def set_state(self, status: str, **more: Any) -> None:
        """Record what became of the run."""
        write_json(self.path / STATE, {"status": status, "updated": now(), **more})

    def reserve(self) -> None:
        """Keep some space, so that a run can say what became of it on a disk that is full."""
        path = self.path / RESERVE
        with disk_errors(path, RESERVED), path.open("wb") as file:
            file.write(b"\0" * RESERVED)
            file.flush()
            os.fsync(file.fileno())

    def use_reserve(self) -> None:
        """Give the reserved space back to the disk."""
        (self.path / RESERVE).unlink(missing_ok=True)

    @property
    def manifest(self) -> dict[str, Any]:
        return parsed_file(self.path / MANIFEST)

    @property
    def results(self) -> dict[str, Any]:
        return parsed_file(self.path / RESULTS)

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        write_json(self.path / MANIFEST, manifest)

    def write_results(self, results: Mapping[str, Any]) -> None:
        write_json(self.path / RESULTS, results)

    def write_recipe(self, text: str) -> None:
        write_file(self.path / RECIPE, text)

    # --- logs ---------------------------------------------------------------------------------
    def event(self, name: str, **more: Any) -> None:
        """Append to `events.jsonl`; `seconds` runs on a monotonic clock from the start of this process."""
        record = {"time": now(), "seconds": round(time.monotonic() - self._begun, 3), "event": name, **more}
        self._append(EVENTS, record)

    def metrics(self, stage: str, step: int, metrics: Mapping[str, float]) -> None:
        """Append one step to `metrics.jsonl`."""
        self._append(METRICS, {"stage": stage, "step": step, **metrics})

    def evaluated(self, stage: str, step: int, measures: Mapping[str, Mapping[str, Any]]) -> None:
        """Append what was measured after a step to `evaluations.jsonl`, once: a resumed run may measure it again."""
        path = self.path / EVALUATIONS
        text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
        known = [_parsed(line) for line in text.split("\n")]
        if not any((record.get("stage"), record.get("step")) == (stage, step) for record in known):
            self._append(EVALUATIONS, {"stage": stage, "step": step, "measures": measures})

    def sync(self) -> None:
        """Force the logs to the disk."""
        for name in (METRICS, EVALUATIONS, EVENTS):
            if (path := self.path / name).exists():
                with disk_errors(path, path.stat().st_size):
                    fsync(path)

    def forget_after(self, stage: str, step: int) -> None:
        """Drop a stage's metrics and evaluations after `step`: they were never committed and will come again."""
        for path in (self.path / METRICS, self.path / EVALUATIONS):
            if path.exists():
                lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
                kept = [line for line in lines if _keeps(line, stage, step)]
                write_file(path, "".join(f"{line}\n" for line in kept))

    def _append(self, name: str, record: Mapping[str, Any]) -> None:
        path = self.path / name
        text = json.dumps(redacted(record), ensure_ascii=False, default=str) + "\n"
        with disk_errors(path, len(text)), path.open("a+b") as file:
            if name not in self._appended and file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":  # a crash cut the last line: the next one must not grow out of it
                    text = f"\n{text}"
            file.write(redact(text).encode("utf-8", errors="backslashreplace"))
        self._appended.add(name)


def check_shape(run: Path) -> None:
    """Refuse a run folder with a file that does not hold what was written there.

    Raises:
        DataError: naming each; a state that is no JSON is none of them, since a run whose state is unknown goes on.
    """
    found = {
        path: said for path, said in problems(run).items() if path.name != STATE or not said.startswith("it is no JSON")
    }
    for path in found:
        raise DataError(
            f"the {path.stem} of run {run.name} is damaged",
            where=str(path),
            details=[f"{one.relative_to(run)}: {said}" for one, said in found.items()],
            fix="Start a new run."
            if path.name == MANIFEST
            else "Restore it from a copy, or remove it: `tunesmith resume` makes what is missing again.",
        )


def check_writable(base: Path, made: str = "run folder", fix: str = "Choose another [run] folder.") -> None:
    """Refuse a place where no folder can be made, before anything is loaded.

    Raises:
        DiskError: a file stands there, or it is read-only.
    """
    from tunesmith.errors import DiskError

    existing = base
    while not os.path.lexists(existing) and existing != existing.parent:
        existing = existing.parent
    reason = None
    if not existing.is_dir():
        reason = f"{existing} is {'a link to nothing' if existing.is_symlink() else 'a file, not a folder'}"
    elif not os.access(existing, os.W_OK | os.X_OK):
        reason = f"{existing} cannot be written by this user"
    if reason:
        raise DiskError(f"no {made} can be made below {base}: {reason}", where=str(base), fix=fix)


@contextmanager
def _no_folder(place: Path) -> Iterator[None]:
    """Turn whatever the file system says against a run folder into a `DiskError`."""
    from tunesmith.errors import DiskError

    try:
        with disk_errors(place):
            yield
    except OSError as error:
        raise DiskError(
            f"no run folder can be made or used at {place}: {error.strerror or error}",
            where=str(place),
            fix="Choose another [run] folder.",
        ) from error


def environment() -> dict[str, Any]:
    """The machine and the versions that a result depends on."""
    versions = {}
    for name in RECORDED:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "host": socket.gethostname(),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "libraries": versions,
    }


def _keeps(line: str, stage: str, step: int) -> bool:
    record = _parsed(line)
    return bool(record) and (record.get("stage") != stage or record.get("step", 0) <= step)


def _numbered(base: Path, name: str) -> list[tuple[int, Path]]:
    """The folders `NAME-001`, `NAME-002`, ... below `base`, each with its number."""
    found = ((re.fullmatch(re.escape(name) + r"-(\d+)", path.name), path) for path in base.iterdir())
    return [(int(match.group(1)), path) for match, path in found if match]


def _held(holder: Mapping[str, Any]) -> str:
    who, where, since = (holder.get(key, "?") for key in ("pid", "host", "start"))
    return f"held by process {who} on {where} since {since}"


def _parsed(text: str) -> dict[str, Any]:
    try:
        value = parse_json(text)
    except ValueError:
        return {}  # empty, or cut by a crash: the callers treat it as not written
    return value if isinstance(value, dict) else {}


def parsed_file(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty when the file is not there or damaged."""
    return _parsed(path.read_text(encoding="utf-8", errors="replace")) if path.is_file() else {}
