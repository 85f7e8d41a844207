"""The text in a row: finding it in columns of any shape, and changing it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from tunesmith import DataError, Row
from tunesmith.errors import nearest
from tunesmith_data.calls import ARGUMENTS, TOOLS
from tunesmith_data.extras import KWARGS
from tunesmith_data.messages import CALL_KEYS, CONTENT_KEYS, REASONING_KEYS
from tunesmith_data.turns import KEYS as TURN_KEYS
from tunesmith_data.values import VERDICTS, filled, from_json

#: Columns that hold no text to work on, unless a step names them.
NOT_TEXT = (*VERDICTS, *TOOLS, KWARGS)
#: Those of them that tell two rows apart, and may hold what must be found.
DECLARED = (*TOOLS, KWARGS)
#: The keys of a message, of a part of one, of a question with its answer or of a call, under which text stands.
CONTENT = (*CONTENT_KEYS, *REASONING_KEYS, *CALL_KEYS, *TURN_KEYS, "function", *ARGUMENTS)
#: Where a tool says something to a reader; all else in it are names that the answers use.
DESCRIBED = ("description", "function", "parameters", "properties", "items")


def text_of(values: Mapping[str, Any], columns: Sequence[str] = (), *, declared: bool = False) -> str:
    """All text of a row, one piece a line; empty when it has none.

    Args:
        declared: whether what is declared for the chat template, such as tools, counts as text too, after the rest.
    """
    pieces = [piece for column in chosen(values, columns) for piece in _pieces(values[column])]
    if declared and not columns:
        pieces += [_as_text(values[column]) for column in DECLARED if filled(values.get(column))]
    return "\n".join(pieces)


def mapped(values: Mapping[str, Any], columns: Sequence[str], function: Callable[[str], str]) -> dict[str, Any]:
    """The row with `function` applied to every piece of text in the columns; everything else stays as it is."""
    found = dict(values)
    for column in chosen(values, columns):
        found[column] = _mapped(values[column], function)
    for column in () if columns else DECLARED:
        if filled(found.get(column)):
            found[column] = _as_it_was(values[column], lambda read: _mapped(read, function, DESCRIBED))
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


def _pieces(value: Any, keys: Sequence[str] | None = CONTENT) -> Iterator[str]:
    """The texts in a value; of objects those under `keys`, and under any key for None."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _pieces(item, keys)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if key in ARGUMENTS and keys is not None:  # text under any key
                yield from _pieces(from_json(item), None)
            elif keys is None or key in keys:
                yield from _pieces(item, keys)


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False, default=repr)


def _mapped(value: Any, function: Callable[[str], str], keys: Sequence[str] | None = CONTENT) -> Any:
    """The value with its texts changed: of objects those under `keys`, and under any key for None."""
    if isinstance(value, str):
        return function(value)
    if isinstance(value, (list, tuple)):
        return [_mapped(item, function, keys) for item in value]
    if isinstance(value, Mapping):
        return {key: _mapped_at(key, item, function, keys) for key, item in value.items()}
    return value


def _mapped_at(key: str, value: Any, function: Callable[[str], str], keys: Sequence[str] | None) -> Any:
    """What stands under a key; a call's arguments hold text under any key."""
    if key in ARGUMENTS and keys == CONTENT:
        return _as_it_was(value, lambda read: _mapped(read, function, None))
    if key == "properties" and keys == DESCRIBED and isinstance(value, Mapping):  # its keys are names of parameters
        return {name: _mapped(item, function, keys) for name, item in value.items()}
    return _mapped(value, function, keys) if keys is None or key in keys else value


def _as_it_was(value: Any, change: Callable[[Any], Any]) -> Any:
    """A value changed; one that is JSON text stays JSON text."""
    read = from_json(value)
    changed = change(read)
    if isinstance(value, str) and not isinstance(read, str):
        return value if changed == read else json.dumps(changed, ensure_ascii=False)
    return changed
