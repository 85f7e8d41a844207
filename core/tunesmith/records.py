"""Rows as they travel from a loader to a trainer: canonical columns and a name for every row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from typing import Any, Literal

from tunesmith.errors import DataError
from tunesmith.spec import RECORD_COLUMNS, RecordType
from tunesmith.steps import Event, Row


@dataclass(frozen=True)
class Records:
    """Rows of one record type, each with the name under which the ledger knows it.

    Args:
        rows: mappings that hold at least the columns of the record type.
        ids: one name a row, such as `support.jsonl:17`; unique.
        history: what the steps of `[data]` did to each row, as `Event` records; empty when there were none.
    """

    rows: Sequence[Mapping[str, Any]]
    ids: Sequence[str]
    history: Sequence[Sequence[Event]] = ()

    def __post_init__(self) -> None:
        if len(self.rows) != len(self.ids):
            raise ValueError(f"{len(self.rows)} rows but {len(self.ids)} row names")
        if self.history and len(self.history) != len(self.rows):
            raise ValueError(f"{len(self.rows)} rows but {len(self.history)} histories")

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Pairs of row name and row."""
        return zip(self.ids, self.rows, strict=True)

    def take(self, indices: Sequence[int]) -> Records:
        """The rows at `indices`, in that order."""
        history = [self.history[i] for i in indices] if self.history else ()
        return Records([self.rows[i] for i in indices], [self.ids[i] for i in indices], history)

    def prepared(self, part: Literal["train", "validation"]) -> Iterator[Row]:
        """The rows as steps take them."""
        history: Iterable[Sequence[Event]] = self.history or repeat(())
        for name, values, events in zip(self.ids, self.rows, history, strict=False):
            yield Row(name, values, part, tuple(events))

    def spread(self, count: int | None) -> Records:
        """`count` rows, evenly spread over all of them; all of them when there are no more, or for None."""
        if count is None or count >= len(self):
            return self
        return self.take([position * len(self) // count for position in range(count)])


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """What a loader returns.

    `type` is one of TRL's record types (`RECORD_COLUMNS`); `recognised` says how the input was understood, for the
    console. `labels` names the labels in the order in which a head shall have them, where the loader knows it; else
    they are those of the training rows, sorted. `task` is the column that says which of several tasks a row is of,
    where there are several: measures are then given for each of them too.

    `unused` counts the rows that have each key which nothing reads, as `{"id": 40, "messages[].name": 2}`; `notes` are
    sentences on how the rows were understood. `tunesmith data check` shows both. `instead` says of other record types
    what in the recipe makes such rows of these, for a trainer that takes no others.
    """

    type: RecordType
    train: Records
    validation: Records = field(default_factory=lambda: Records([], []))
    recognised: str = ""
    labels: tuple[str, ...] = ()
    task: str = ""
    unused: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    instead: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.type not in RECORD_COLUMNS:
            raise ValueError(f"unknown record type {self.type!r}; there are {sorted(RECORD_COLUMNS)}")
        for records in (self.train, self.validation):
            for row_id, row in records:
                missing = [column for column in RECORD_COLUMNS[self.type] if column not in row]
                if missing:
                    raise DataError(
                        f"row {row_id} lacks {', '.join(missing)}, which a {self.type!r} record must have",
                        fix="The loader must drop such a row (with a reason in the ledger) or convert it.",
                    )
