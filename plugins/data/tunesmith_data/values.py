"""Checking single values of a row: text, labels, and what makes them unusable."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunesmith_data.raw import kind


class Unusable(Exception):
    """A row cannot be used.

    Args:
        reason: why, without the row's name and its content, so that equal faults count together.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def get(row: Mapping[str, Any], column: str) -> Any:
    """The value of a column that must be there and must not be null."""
    if column not in row:
        raise Unusable(f"no {column!r}")
    if row[column] is None:
        raise Unusable(f"{column!r} is null")
    return row[column]


def text(row: Mapping[str, Any], column: str) -> str:
    """A column's text, which must hold more than blanks."""
    return clean(get(row, column), repr(column))


def clean(value: Any, what: str) -> str:
    """`value` when it is text that a tokenizer takes and that holds more than blanks.

    Args:
        value: anything.
        what: how the reason names it.
    """
    if not isinstance(value, str):
        raise Unusable(f"{what} is {kind(value)}, not text")
    if not value:
        raise Unusable(f"{what} is empty")
    if value.isspace():
        raise Unusable(f"{what} holds only blanks")
    if "\0" in value:
        raise Unusable(f"{what} holds a NUL character")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise Unusable(f"{what} holds a lone surrogate") from None
    return value


TRUTH = {"true": True, "1": True, "false": False, "0": False}


def verdict(row: Mapping[str, Any]) -> bool:
    """True for a wanted answer, false for an unwanted one; CSV writes them as text."""
    value = get(row, "label")
    if isinstance(value, (bool, int)) and value in (0, 1):
        return bool(value)
    if isinstance(value, str) and value.strip().lower() in TRUTH:
        return TRUTH[value.strip().lower()]
    raise Unusable("'label' is not true or false")
