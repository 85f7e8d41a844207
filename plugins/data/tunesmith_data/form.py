"""What a format of rows is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tunesmith.spec import RecordType
from tunesmith_data import extras

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Format:
    """One way of writing rows.

    Args:
        name: what a recipe writes after `format`.
        title: what the console says was recognised.
        type: the record type that its rows become.
        columns: the columns by which it is recognised; `messages|conversations` is one or the other.
        convert: makes a canonical row of its own columns, or raises `Unusable`.
        own: its own columns, and what becomes of each.
        chat: whether its rows are conversations, which may have `extras.READ` beside them.
        only: of rows with its columns, those that are meant, where the columns do not say it.
    """

    name: str
    title: str
    type: RecordType
    columns: tuple[str, ...]
    convert: Callable[[Row], dict[str, Any]]
    own: Mapping[str, str]
    chat: bool = True
    only: Callable[[Row], bool] | None = None

    def has_columns(self, row: Row) -> bool:
        """Whether a row has the columns by which it is recognised."""
        return all(any(name in row for name in either.split("|")) for either in self.columns)

    def fits(self, row: Row) -> bool:
        """Whether a row is recognised as one of these."""
        return self.has_columns(row) and (self.only is None or self.only(row))

    @cached_property
    def reads(self) -> dict[str, str]:
        """Every column that is read, and what becomes of it."""
        return {**(extras.READ if self.chat else {}), **extras.WEIGHTS, **self.own}

    @cached_property
    def refuses(self) -> dict[str, str]:
        """Every column that is refused when it says anything, and why."""
        known = extras.REFUSED if self.chat else extras.UNREADABLE
        return {column: why for column, why in known.items() if column not in self.own}
