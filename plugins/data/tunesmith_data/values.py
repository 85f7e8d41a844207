"""Checking single values of a row: text, labels, and what makes them unusable."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from tunesmith_data.raw import kind


class Unusable(Exception):
    """A row cannot be used.

    Args:
        reason: why, without the row's name and its content, so that equal faults count together.
        expected: the row says itself that there is nothing to train on, so that it is no loss.
    """

    def __init__(self, reason: str, *, expected: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.expected = expected


def get(row: Mapping[str, Any], column: str) -> Any:
    """The value of a column that must be there and must not be null."""
    if column not in row:
        raise Unusable(f"no {column!r}")
    if row[column] is None:
        raise Unusable(f"{column!r} is null")
    return row[column]


def filled(value: Any) -> bool:
    """Whether a value says anything: not null, and no empty text, list or object."""
    return value is not None and not (isinstance(value, (str, list, tuple, Mapping)) and not value)


def one_of(row: Mapping[str, Any], names: Iterable[str]) -> tuple[str, Any]:
    """The name and the value of a key with several spellings, of which a row uses one; ("", None) where it has none.

    Raises:
        Unusable: two of them say different things.
    """
    found = [(name, row[name]) for name in names if name in row and filled(row[name])]
    for name, value in found[1:]:
        if value != found[0][1]:
            raise Unusable(f"{found[0][0]!r} and {name!r} stand for the same and differ")
    return found[0] if found else ("", None)


def from_json(value: Any) -> Any:
    """What a text says in JSON when it is a list or an object there; anything else as it is. CSV holds lists so."""
    if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def plain(value: Any, what: str) -> Any:
    """`value` when JSON and a tokenizer can take all of it.

    Args:
        what: how the reason names it.
    """
    try:
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8")
    except (TypeError, ValueError, RecursionError):
        raise Unusable(f"{what} holds what JSON cannot write") from None
    return value


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
#: The columns that say whether an answer is wanted.
VERDICTS = ("label", "kto_tag")


def verdict(row: Mapping[str, Any]) -> bool:
    """True for a wanted answer, false for an unwanted one; CSV writes them as text."""
    name, value = one_of(row, VERDICTS)
    if not name:
        raise Unusable(f"no {' or '.join(map(repr, VERDICTS))}")
    found = _truth(value)
    if found is None:
        raise Unusable(f"{name!r} is not true or false")
    return found


def judged(row: Mapping[str, Any]) -> bool:
    """Whether a row says that its answer is wanted, or unwanted."""
    return any(_truth(row.get(name)) is not None for name in VERDICTS)


def _truth(value: Any) -> bool | None:
    if isinstance(value, (bool, int, float)) and value in (0, 1):
        return bool(value)
    return TRUTH.get(value.strip().lower()) if isinstance(value, str) else None
