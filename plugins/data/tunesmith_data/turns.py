"""Questions with their answers as messages: the other ways in which files write a conversation.

turned([["2 + 2?", "4"]])                                # the user's message and the assistant's
turned([{"human": "2 + 2?", "assistant": "4"}])          # the same
turned([{"system": "Add.", "input": "2 + 2?", "output": "4"}])    # with a system message before them
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunesmith_data.raw import pair
from tunesmith_data.values import filled

#: The keys of an object that is a question with its answer, and what becomes of each.
KEYS = {
    "human": "the user's message",
    "assistant": "the assistant's message",
    "input": "the user's message",
    "output": "the assistant's message",
    "system": "the system message, before them",
    "output_with_loss": "false: the answer is read and not trained",
}


def turned(value: Any) -> Any:
    """A conversation as a list of messages, where it is written as questions with their answers; else as it is.

    Keys that say nothing of a turn stay with the user's message.
    """
    if isinstance(value, Mapping) and _answered(value):
        value = [value]
    if not isinstance(value, (list, tuple)) or not any(_asks(item) for item in value):
        return value
    return [message for item in value for message in _messages(item)]


def _asks(item: Any) -> bool:
    return _answered(item) if isinstance(item, dict) else pair(item) or _answered(item)


def _answered(item: Any) -> bool:
    return isinstance(item, Mapping) and "role" not in item and "from" not in item and _keys(item) is not None


def _keys(item: Mapping[str, Any]) -> tuple[str, str] | None:
    return next((keys for keys in (("human", "assistant"), ("input", "output")) if set(keys) <= item.keys()), None)


def _messages(item: Any) -> list[Any]:
    if pair(item):
        return [{"role": "user", "content": item[0]}, {"role": "assistant", "content": item[1]}]
    if not _answered(item):
        return [item]
    asks, answers = _keys(item) or ("", "")
    rest = {key: value for key, value in item.items() if key not in KEYS}
    found: list[Any] = [
        {"role": "user", "content": item[asks], **rest},
        {"role": "assistant", "content": item[answers]},
    ]
    if item.get("output_with_loss") is not None:
        found[1]["loss"] = item["output_with_loss"]
    if filled(item.get("system")):
        found.insert(0, {"role": "system", "content": item["system"]})
    return found
