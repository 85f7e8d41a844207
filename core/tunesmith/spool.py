"""Rows that stay in memory while they are few, and go to a file when they are many.

    spool = Spool()
    for row in rows:
        spool.add(row.name, row.values, row.history)
    records = spool.records()     # Records that read single rows back when they are asked for

The file has no name: it is gone when the spool is, whatever ends the process. Rows are read with `pread`, so several
threads and forked workers may read at once.
"""

from __future__ import annotations

import json
import os
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

from tunesmith.records import Records
from tunesmith.steps import Event
from tunesmith.store import disk_errors

T = TypeVar("T")

#: Characters of text that are held in memory before rows go to a file; about a gigabyte of Python objects at most.
IN_MEMORY = 64 * 2**20
READ_AHEAD = 1 << 20

Stored = tuple[str, Mapping[str, Any], tuple[Event, ...]]


class Spool:
    """Rows by their number, from 0; each has a name, values and a history.

    Args:
        folder: where the file is made, once it is needed; None takes the system's folder for temporary files.
        in_memory: characters of text that are held in memory before that.
    """

    def __init__(self, folder: Path | None = None, in_memory: int | None = None) -> None:
        self._folder = folder
        self._limit = IN_MEMORY if in_memory is None else in_memory
        self._held = 0
        self._rows: list[Stored] = []  # while there is no file
        self._apart: dict[int, Stored] = {}  # what JSON cannot hold as it is
        self._places = array("Q", [0])  # where each line begins, and the last one ends
        self._file: Any = None

    def __len__(self) -> int:
        return len(self._rows) if self._file is None else len(self._places) - 1

    @property
    def on_disk(self) -> bool:
        """Whether the rows are in a file."""
        return self._file is not None

    def add(self, name: str, values: Mapping[str, Any], history: Iterable[Event] = ()) -> int:
        """Keep a row; returns its number.

        Raises:
            DiskError: the file cannot be written.
        """
        stored = (name, values, tuple(history))
        if self._file is None:
            self._rows.append(stored)
            self._held += len(name) + _characters(values)
            if self._held > self._limit:
                self._spill()
        else:
            self._write(stored)
        return len(self) - 1

    def get(self, number: int) -> Stored:
        """Name, values and history of a row."""
        if self._file is None:
            return self._rows[number]
        if number in self._apart:
            return self._apart[number]
        begin, end = self._places[number], self._places[number + 1]
        self._file.flush()
        name, values, history = json.loads(os.pread(self._file.fileno(), end - begin, begin))
        return name, values, tuple(Event(*event) for event in history)

    def records(self, numbers: Sequence[int] | None = None) -> Records:
        """The rows with these numbers, in that order; all of them for None."""
        chosen: Sequence[int] = range(len(self)) if numbers is None else numbers
        if self._file is None:
            rows = [self._rows[number] for number in chosen]
            return Records([row[1] for row in rows], [row[0] for row in rows], [row[2] for row in rows])
        chosen = chosen if isinstance(chosen, range) else array("Q", chosen)
        return Records(*(Lazy(chosen, self._part(part)) for part in (1, 0, 2)))

    def _part(self, part: int) -> Callable[[int], Any]:
        return lambda number: self.get(number)[part]

    def _spill(self) -> None:
        """Move everything from memory to a file."""
        where = self._folder or Path(tempfile.gettempdir())
        with disk_errors(where):
            where.mkdir(parents=True, exist_ok=True)
            self._file = tempfile.TemporaryFile(dir=where, buffering=READ_AHEAD)  # noqa: SIM115 (it lives as the spool)
        rows, self._rows = self._rows, []
        for stored in rows:
            self._write(stored)

    def _write(self, stored: Stored) -> None:
        number = len(self._places) - 1
        try:
            line = json.dumps(stored).encode("ascii")
            faithful = _plain(stored[1])
        except (TypeError, ValueError):
            faithful = False
        if not faithful:
            self._apart[number], line = stored, b""
        with disk_errors(self._folder or Path(tempfile.gettempdir())):
            self._file.write(line)
        self._places.append(self._places[-1] + len(line))


class Lazy(Sequence[T], Generic[T]):
    """A sequence whose items are made when they are asked for.

    Args:
        numbers: of each item.
        get: makes the item of a number.
    """

    def __init__(self, numbers: Sequence[int], get: Callable[[int], T]) -> None:
        self._numbers = numbers
        self._get = get

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        if isinstance(index, slice):
            return Lazy(self._numbers[index], self._get)
        return self._get(self._numbers[index])

    def __iter__(self) -> Iterator[T]:
        return map(self._get, self._numbers)


def _characters(value: Any) -> int:
    """About how many characters a value holds."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Mapping):
        return sum(len(str(key)) + _characters(item) for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return sum(_characters(item) for item in value)
    return 8


def _plain(value: Any) -> bool:
    """Whether JSON gives a value back as it is: tuples would become lists, and other keys text."""
    if isinstance(value, dict):
        return all(type(key) is str and _plain(item) for key, item in value.items())
    if isinstance(value, list):
        return all(map(_plain, value))
    return value is None or type(value) in (str, int, float, bool)
