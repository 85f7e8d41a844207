"""A row as it was read, before anything is known about its columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NOT_UTF8 = "not UTF-8"


@dataclass(frozen=True)
class Raw:
    """One row, or the reason why there is none.

    Args:
        name: the row's name in the ledger, such as `support.jsonl:17`.
        row: the columns; None when the row could not be read.
        reason: why it could not be read.
    """

    name: str
    row: Mapping[str, Any] | None
    reason: str = ""


#: The column of a row that is nothing but a conversation.
BARE = "conversation"
#: Keys that make an object a turn, or a question with its answer.
TURN_KEYS = ({"role"}, {"from"}, {"human", "assistant"}, {"input", "output"})


def checked(name: str, value: Any) -> Raw:
    """A row when `value` is an object or a bare conversation, else the reason."""
    if isinstance(value, dict):
        return Raw(name, value)
    if bare(value):
        return Raw(name, {BARE: value})
    return Raw(name, None, f"the row is {kind(value)}, not an object")


def bare(value: Any) -> bool:
    """Whether a list is a conversation by itself: of messages, or of questions with their answers."""
    return isinstance(value, list) and bool(value) and (turn(value[0]) or pair(value[0]))


def turn(value: Any) -> bool:
    """Whether an object is a message, or a question with its answer."""
    return isinstance(value, Mapping) and any(keys <= value.keys() for keys in TURN_KEYS)


def pair(value: Any) -> bool:
    """Whether a list is a question with its answer."""
    return isinstance(value, (list, tuple)) and len(value) == 2 and all(isinstance(side, str) for side in value)


def kind(value: Any) -> str:
    """What a value is, in the words of JSON."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, (int, float)):
        return "a number"
    if isinstance(value, str):
        return "text"
    if isinstance(value, (list, tuple)):
        return "a list"
    return "an object" if isinstance(value, dict) else f"of type {type(value).__name__}"
