"""Conversations: lists of messages in OpenAI's or ShareGPT's keys, checked and brought to role and content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from tunesmith_data.raw import kind
from tunesmith_data.values import Unusable, clean

Message = dict[str, str]

#: How files name the three roles.
ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
}


def conversation(value: Any, column: str) -> list[Message]:
    """A whole conversation: an optional system message, then user and assistant in turn.

    Raises:
        Unusable: the list is empty, has no assistant message, or its roles are out of order.
    """
    found = messages(value, column)
    check_order(found)
    roles = [message["role"] for message in found]
    if "assistant" not in roles:
        raise Unusable("no assistant message")
    return found


def messages(value: Any, column: str) -> list[Message]:
    """The messages of a list, in any order, with checked roles and contents.

    Raises:
        Unusable: it is no list, is empty, or a message in it cannot be used.
    """
    if not isinstance(value, (list, tuple)):
        raise Unusable(f"{column!r} is {kind(value)}, not a list of messages")
    if not value:
        raise Unusable(f"{column!r} is an empty list")
    return [_message(item, column) for item in value]


def check_order(found: Sequence[Message]) -> None:
    """Refuse system messages that are not first, and roles that do not alternate from the user on.

    Raises:
        Unusable: what is out of order.
    """
    roles = [message["role"] for message in found]
    if roles.count("system") > 1:
        raise Unusable("two system messages")
    if "system" in roles[1:]:
        raise Unusable("the system message is not the first")
    turns = [role for role in roles if role != "system"]
    if turns and turns[0] != "user":
        raise Unusable("the conversation starts with the assistant")
    if any(one == two for one, two in pairwise(turns)):
        raise Unusable("user and assistant do not alternate")


def _message(item: Any, column: str) -> Message:
    if not isinstance(item, Mapping):
        raise Unusable(f"a message in {column!r} is {kind(item)}, not an object")
    role = item.get("role", item.get("from"))
    if role is None:
        raise Unusable("a message without a role")
    if not isinstance(role, str):
        raise Unusable(f"a message's role is {kind(role)}, not text")
    if role.strip().lower() not in ROLES:
        raise Unusable(f"unknown role {role[:40]!r}")
    if item.get("tool_calls") or item.get("function_call"):
        raise Unusable("a message calls a tool, which no record type here holds")
    if item.get("weight") == 0:
        raise Unusable("a message has weight 0, which no record type here holds")
    name = ROLES[role.strip().lower()]
    content = item.get("content", item.get("value"))
    if content is None:
        raise Unusable(f"a message of the {name} has no content")
    return {"role": name, "content": clean(_joined(content), f"a message of the {name}")}


def _joined(content: Any) -> Any:
    """OpenAI allows a list of parts as content; parts that are all text are joined."""
    if not isinstance(content, list) or not content:
        return content
    parts = [part.get("text") for part in content if isinstance(part, Mapping) and part.get("type") == "text"]
    if len(parts) < len(content):
        raise Unusable("a message has parts that are not text")
    return "".join(part for part in parts if isinstance(part, str))
