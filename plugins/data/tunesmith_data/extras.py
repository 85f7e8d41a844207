"""What a conversation's row says beside its own columns: the system's words, the past, tools, weight, reasoning.

beside({"instruction": "And in summer?", "history": [["Cold?", "Yes."]], ...}, {"prompt": "And in summer?", ...})
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunesmith_data import weights
from tunesmith_data.calls import TOOLS, declared
from tunesmith_data.messages import MEDIA, Message, check_order, messages
from tunesmith_data.pairs import as_chat, as_user, untrained
from tunesmith_data.parts import unread
from tunesmith_data.raw import kind
from tunesmith_data.values import Unusable, clean, filled, from_json, one_of, plain

Row = Mapping[str, Any]

SYSTEM = ("system", "system_prompt", "system_message")
REASONING = ("reasoning_content", "thinking")
KWARGS = "chat_template_kwargs"

#: Columns that every conversation may have beside those of its format.
READ = {
    **dict.fromkeys(SYSTEM, "the system message"),
    "history": "the turns before: a list of [user, assistant], or of messages; read, not trained",
    **dict.fromkeys(TOOLS, "the tools that the model may call, for the chat template; a list, or JSON of one"),
    KWARGS: "further arguments of the chat template, as an object",
    **dict.fromkeys(REASONING, "the reasoning before the answer, where the answer is text"),
}
#: Columns that every row may have.
WEIGHTS = dict.fromkeys(weights.ROW, "how much the row counts in the loss; 0 leaves it out")
#: Columns that are refused in every row when they say anything, with the reason.
UNREADABLE = {name: unread(medium) for medium in MEDIA for name in (medium, f"{medium}s")}
#: Those that are refused in a conversation.
REFUSED = {
    **UNREADABLE,
    "documents": "no chat template is given documents here, and without them the answer has no ground",
}
#: What a row may not say to the chat template: it is said by the rest of the row, or by the trainer.
RESERVED = ("messages", "conversation", "tools", "documents", "chat_template", "add_generation_prompt", "tokenize")


def beside(row: Row, converted: dict[str, Any]) -> dict[str, Any]:
    """A canonical row with what the row as read says beside it.

    Raises:
        Unusable: with the reason.
    """
    system, past, thought = _system(row), _past(row), _thought(row)
    further = {**_tools(row), **_kwargs(row)}
    found = {**converted, **further}
    if system or past or thought or further:
        found = as_chat(found)
    first = "messages" if "messages" in found else "prompt"
    if system or past:
        if first == "messages":  # of a prompt nothing is trained anyway
            past = [untrained(message) for message in past]
        found[first] = _led(system, past, found[first])
        check_order([*found[first], *found.get("completion", ())])
    if thought:
        found = _thinking(thought, found)
    return weighted(row, found)


def weighted(row: Row, converted: dict[str, Any]) -> dict[str, Any]:
    """A canonical row with its weight, where that is not 1."""
    weight = weights.of_row(row)
    return converted if weight == 1 else {**converted, "weight": weight}


def _led(system: str, past: list[Message], rest: list[Message]) -> list[Message]:
    """The turns with the system's words and the past before them."""
    own = rest[:1] if rest[0]["role"] == "system" else []
    if system and own and own[0]["content"] != system:
        raise Unusable("the row has a system prompt and another system message")
    lead = own or ([{"role": "system", "content": system}] if system else [])
    return [*lead, *past, *rest[len(own) :]]


def _system(row: Row) -> str:
    name, value = one_of(row, SYSTEM)
    return "" if not name or (isinstance(value, str) and value.isspace()) else clean(value, repr(name))


def _past(row: Row) -> list[Message]:
    value = from_json(row.get("history"))
    if not filled(value) or (isinstance(value, str) and value.isspace()):
        return []
    if not isinstance(value, (list, tuple)):
        raise Unusable(f"'history' is {kind(value)}, not a list of turns")
    if all(isinstance(item, Mapping) for item in value):
        return messages(value, "history")
    found: list[Message] = []
    for pair in value:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise Unusable("a turn in 'history' is no pair of what the user and the assistant said")
        found += as_user(clean(pair[0], "the user in 'history'"))
        found.append({"role": "assistant", "content": clean(pair[1], "the assistant in 'history'")})
    return found


def _tools(row: Row) -> dict[str, Any]:
    found = {name: declared(row[name], name) for name in TOOLS if filled(row.get(name))}
    return {"tools": tools} if (tools := one_of(found, TOOLS)[1]) else {}


def _kwargs(row: Row) -> dict[str, Any]:
    value = from_json(row.get(KWARGS))
    if not filled(value):
        return {}
    if not isinstance(value, Mapping):
        raise Unusable(f"{KWARGS!r} is {kind(value)}, not an object")
    reserved = [name for name in RESERVED if name in value]
    if reserved:
        raise Unusable(f"{KWARGS!r} may not set {reserved[0]!r}")
    return {KWARGS: plain(dict(value), repr(KWARGS))}


def _thought(row: Row) -> str:
    name, value = one_of(row, REASONING)
    return "" if not name or (isinstance(value, str) and value.isspace()) else clean(value, repr(name))


def _thinking(thought: str, row: dict[str, Any]) -> dict[str, Any]:
    answer = row.get("completion", ())
    if len(answer) != 1 or "reasoning_content" in answer[0]:
        raise Unusable("the row has reasoning and no plain answer that it belongs to")
    return {**row, "completion": [{**answer[0], "reasoning_content": thought}]}
