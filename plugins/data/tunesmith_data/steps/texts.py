"""The text in a row: finding it in columns of any shape, and changing it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from tunesmith import DataError, Row
from tunesmith.errors import nearest

#: Columns that hold no text to work on, unless a step names them.
NOT_TEXT = ("label",)
#: The keys of a message, or of a part of one, that hold its text.
CONTENT = ("content", "value", "text")


def text_of(values: Mapping[str, Any], columns: Sequence[str] = ()) -> str:
    """All text of a row, one piece a line; empty when it has none."""
    return "\n".join(piece for column in chosen(values, columns) for piece in _pieces(values[column]))


def mapped(values: Mapping[str, Any], columns: Sequence[str], function: Callable[[str], str]) -> dict[str, Any]:
    """The row with `function` applied to every piece of text in the columns; everything else stays as it is."""
    found = dict(values)
    for column in chosen(values, columns):
        found[column] = _mapped(values[column], function)
    return found


def chosen(values: Mapping[str, Any], columns: Sequence[str]) -> Iterator[str]:
    """The columns of a row to look at: those named, or all but labels."""
    if columns:
        return (column for column in columns if column in values)
    return (column for column in values if column not in NOT_TEXT)


def watched(rows: Iterable[Row], columns: Sequence[str], step: str) -> Iterator[Row]:
    """The rows; at the end a column that a step names and no row has is refused.

    Raises:
        DataError: with the nearest name.
    """
    missing, present = set(columns), set[str]()
    any_row = False
    for row in rows:
        any_row = True
        if missing:
            missing -= row.values.keys()
            present.update(row.values)
        yield row
    if missing and any_row:
        name = min(missing)
        near = nearest(name, sorted(present))
        raise DataError(
            f"no row has the column {name!r} that the step {step!r} names",
            details=[f"columns found: {', '.join(map(repr, sorted(present)[:30])) or 'none'}"],
            fix=f"Did you mean {near!r}?" if near else f"Mend the step {step!r} in [data].",
        )


def _pieces(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _pieces(item)
    elif isinstance(value, Mapping):
        for key in CONTENT:
            yield from _pieces(value.get(key))


def _mapped(value: Any, function: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return function(value)
    if isinstance(value, (list, tuple)):
        return [_mapped(item, function) for item in value]
    if isinstance(value, Mapping):
        return {key: _mapped(item, function) if key in CONTENT else item for key, item in value.items()}
    return value
