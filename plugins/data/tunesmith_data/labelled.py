"""Rows with labels: one a text, several a text, or one a word; and labels that are numbers into a list of names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tunesmith.labels import LABEL_COLUMNS, label_name
from tunesmith_data.raw import kind
from tunesmith_data.values import Unusable, clean, get, text

Row = Mapping[str, Any]


def text_label(row: Row) -> dict[str, Any]:
    """A text and its label."""
    return {"text": text(row, "text"), "label": one_label(get(row, "label"), "'label'")}


def text_labels(row: Row) -> dict[str, Any]:
    """A text and any number of labels, in their order, each once."""
    labels = [one_label(value, "a label") for value in _listed(get(row, "labels"), "labels")]
    return {"text": text(row, "text"), "labels": list({label_name(label): label for label in labels}.values())}


def tokens_tags(row: Row) -> dict[str, Any]:
    """Words and a tag for each."""
    tokens = [clean(value, "a token") for value in _listed(get(row, "tokens"), "tokens")]
    tags = [one_label(value, "a tag") for value in _listed(get(row, "tags"), "tags")]
    if not tokens:
        raise Unusable("'tokens' is empty")
    if len(tokens) != len(tags):
        raise Unusable("'tokens' and 'tags' differ in number")
    return {"tokens": tokens, "tags": tags}


def one_label(value: Any, what: str) -> str | int | float | bool:
    """A label: text, a number or a boolean.

    Args:
        what: how the reason names it.

    Raises:
        Unusable: it is of another type, empty, or not finite.
    """
    if isinstance(value, str):
        return clean(value, what)
    if not isinstance(value, (bool, int, float)):
        raise Unusable(f"{what} is {kind(value)}, not text or a number")
    if isinstance(value, float) and not math.isfinite(value):
        raise Unusable(f"{what} is not a finite number")
    return value


def split_lists(row: Row, separator: str | None) -> Row:
    """A row whose lists of labels, tokens and tags were written as one text, with lists."""
    if separator is None:
        return row
    found = dict(row)
    for column in ("labels", "tokens", "tags"):
        if isinstance(found.get(column), str):
            found[column] = [part.strip() for part in found[column].split(separator) if part.strip()]
    return found


def named(row: dict[str, Any], record_type: str, names: Sequence[str]) -> dict[str, Any]:
    """A row whose labels are among `names`; whole numbers are places in it.

    Raises:
        Unusable: a number is out of range, or a name is not there.
    """
    column = LABEL_COLUMNS.get(record_type)
    if column is None or not names:
        return row
    value = row[column]
    if isinstance(value, list):
        return {**row, column: [_named(item, names) for item in value]}
    return {**row, column: _named(value, names)}


def _named(value: Any, names: Sequence[str]) -> str:
    name = label_name(value)
    if name in names:
        return name
    if isinstance(value, str) and not name.strip().removeprefix("-").isdecimal():
        raise Unusable("a label is not among `label_names`")
    if isinstance(value, bool) or not name.strip().removeprefix("-").isdecimal():
        raise Unusable("a label is neither a name nor a whole number")
    if not 0 <= int(name) < len(names):
        raise Unusable(f"a label's number is out of range: `label_names` has {len(names)}")
    return names[int(name)]


def _listed(value: Any, column: str) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        told = ", and `label_separator` is not set" if isinstance(value, str) else ""
        raise Unusable(f"{column!r} is {kind(value)}, not a list{told}")
    return list(value)
