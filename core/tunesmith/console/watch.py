"""Looking at rows on their way through the steps of `[data]`, for `tunesmith data`."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tunesmith.steps import Row


class Figures:
    """What some rows look like: how many, their columns, their lengths, what is missing, how many are repeated."""

    def __init__(self) -> None:
        self._lengths = array("Q")
        self._columns: dict[str, int] = {}  # rows that have each
        self._missing: Counter[str] = Counter()
        self._seen: set[bytes] = set()
        self._repeated = 0

    def add(self, values: Mapping[str, Any]) -> None:
        """Count a row."""
        texts = [
            item if isinstance(item, str) else json.dumps(item, ensure_ascii=False, default=str)
            for item in values.values()
        ]
        self._lengths.append(sum(map(len, texts)))
        for column, value in values.items():
            self._columns[column] = self._columns.get(column, 0) + 1
            if value is None or value in ([], {}) or (isinstance(value, str) and not value.strip()):
                self._missing[column] += 1
        content = json.dumps([list(values), texts]).encode("ascii")
        key = hashlib.blake2b(content, digest_size=8).digest()
        self._repeated += key in self._seen
        self._seen.add(key)

    def describe(self) -> dict[str, Any]:
        """The figures as plain data; lengths are in characters of the row's text."""
        lengths = self._lengths
        if not lengths:
            return {"rows": 0}
        missing = {
            column: self._missing[column] + len(lengths) - count
            for column, count in self._columns.items()
            if self._missing[column] + len(lengths) - count
        }
        return {
            "rows": len(lengths),
            "columns": list(self._columns),
            "characters": spread(lengths),
            "missing": missing,
            "repeated": self._repeated,
        }


def spread(lengths: Sequence[int]) -> dict[str, int]:
    """The shortest, median and longest of some lengths; nothing of none."""
    found = sorted(lengths)
    return {"shortest": found[0], "median": found[len(found) // 2], "longest": found[-1]} if found else {}


class AsRead(Figures):
    """The rows as they come from their sources, before any step."""

    def read(self, row: Row) -> None:
        self.add(row.values)

    def left(self, step: str, row: Row) -> None:
        """Only what comes in counts."""


@dataclass
class Way:
    """What becomes of one row, step by step.

    Args:
        name: the row's.
        read: its values as they came; None when no such row comes.
        stops: the steps that touched it, with their fate, the reason, and its values after them.
    """

    name: str
    source: Mapping[str, Any] | None = None
    stops: list[tuple[str, str, str, Mapping[str, Any]]] = field(default_factory=list)

    def read(self, row: Row) -> None:
        if row.name == self.name:
            self.source = row.values

    def left(self, step: str, row: Row) -> None:
        if row.name == self.name and row.fate != "kept":
            self.stops.append((step, row.fate, row.history[-1].why, row.values))
