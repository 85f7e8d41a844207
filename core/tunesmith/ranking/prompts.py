"""What models are asked: the prompts of rows, each once."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tunesmith.errors import DataError
from tunesmith.records import Records
from tunesmith.spec import RECORD_COLUMNS

#: Columns of the record types that are no part of what is asked.
ANSWERS = {column for columns in RECORD_COLUMNS.values() for column in columns} | {"margin", "weight"}


@dataclass
class Question:
    """A prompt and the answers to it.

    Args:
        row: the name of the row it comes from.
        prompt: text, or a list of messages.
        more: further columns of the row, which are carried along.
        answers: by participant, an answer a draw.
    """

    row: str
    prompt: Any
    more: dict[str, Any] = field(default_factory=dict)
    answers: dict[str, list[str]] = field(default_factory=dict)


def questions(rows: Records, record_type: str, count: int | None) -> list[Question]:
    """The prompts of `count` rows, evenly spread; rows that ask the same count once.

    Raises:
        DataError: rows of this type have no prompts, or there are none.
    """
    found: dict[str, Question] = {}
    for name, row in rows:
        prompt = _prompt(row, record_type)
        if prompt:
            more = {column: value for column, value in row.items() if column not in ANSWERS}
            found.setdefault(json.dumps([prompt, more], sort_keys=True, default=str), Question(name, prompt, more))
    if not found:
        raise DataError(
            f"no prompt is in the {len(rows)} rows of type {record_type!r}",
            fix="Name a file that has some: --prompts FILE, with a column `prompt` or `messages`.",
        )
    asked = list(found.values())
    return [asked[i] for i in spread(len(asked), count)]


def spread(total: int, count: int | None) -> list[int]:
    """`count` places of `total`, evenly spread; all of them when there are no more, or for None."""
    if count is None or count >= total:
        return list(range(total))
    return [place * total // count for place in range(count)]


def _prompt(row: Mapping[str, Any], record_type: str) -> Any:
    """What a row asks; None where it asks nothing."""
    if record_type != "messages":
        return row.get("prompt")
    turns = list(row["messages"])
    while turns and turns[-1]["role"] == "assistant":
        turns.pop()
    return turns
