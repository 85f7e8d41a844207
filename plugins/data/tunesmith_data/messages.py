"""Conversations: lists of messages in OpenAI's or ShareGPT's keys, checked and brought to one form.

    conversation([{"from": "human", "value": "2 + 2?"}, {"from": "gpt", "value": "4", "loss": False}], "conversations")

A message has `role` (system, user, assistant, tool) and `content`, which is text, and, where the row has them,
`reasoning_content`, `tool_calls`, `tool_call_id`, `name` (of a tool) and `weight`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from tunesmith_data import weights
from tunesmith_data.calls import calls
from tunesmith_data.parts import MEDIA, joined, unread
from tunesmith_data.raw import kind
from tunesmith_data.turns import turned
from tunesmith_data.values import Unusable, clean, filled, from_json, one_of

Message = dict[str, Any]

#: How files name the roles. A message of a `function_call` is the assistant's, and its content is the call.
ROLES = {
    **dict.fromkeys(("system", "developer"), "system"),
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(
        ("assistant", "gpt", "model", "chatgpt", "bing", "bard", "bot", "chatbot", "ai", "claude"), "assistant"
    ),
    **dict.fromkeys(("tool", "function", "observation", "ipython", "tool_response", "function_response"), "tool"),
    **dict.fromkeys(("function_call", "tool_call"), "function_call"),
}
#: The roles of messages that need nothing but text, and what their reasons call them.
PLAIN = {role: f"a message of the {role}" for role in ("system", "user", "assistant")}
#: The spellings of a message's keys.
ROLE_KEYS = ("role", "from")
CONTENT_KEYS = ("content", "value", "text")
REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")
CALL_KEYS = ("tool_calls", "function_call")

#: Every key of a message that is read.
READ = {
    **dict.fromkeys(ROLE_KEYS, "who speaks, see Roles"),
    **dict.fromkeys(CONTENT_KEYS, "what is said: text, or a list of parts; a tool's result may be any JSON"),
    **dict.fromkeys(REASONING_KEYS, "`reasoning_content` of an assistant's message, as its parts of type thinking are"),
    "tool_calls": "the assistant's calls; arguments that are JSON text are parsed",
    "function_call": "one call, as OpenAI wrote it before `tool_calls`",
    "tool_call_id": "of a tool's result: the call that it belongs to",
    "name": "of a tool's result: the tool. Of other messages it is named as not used",
    **dict.fromkeys(weights.FLAGS, "`weight` of an assistant's turn: false or 0 is read and not trained"),
    **dict.fromkeys(weights.MASKS, "the opposite: true is `weight` 0"),
}
#: Keys of a message that are refused when they say anything, with the reason.
REFUSED = {
    **{name: unread(medium) for medium in MEDIA for name in (medium, f"{medium}s")},
    "train_detail": "spans of a message cannot be trained apart",
    "refusal": "the answer stands in a key that no chat template renders",
    "tool_plan": "the answer stands in a key that no chat template renders",
}


def conversation(value: Any, column: str) -> list[Message]:
    """A whole conversation: an optional system message, then turns, of which one at least is the assistant's.

    Raises:
        Unusable: the list is empty, has no assistant message to train on, or its roles are out of order.
    """
    found = messages(from_json(value), column)
    check_order(found)
    if all(message["role"] != "assistant" for message in found):
        raise Unusable("no assistant message")
    if all(message["role"] != "user" for message in found):
        raise Unusable("no message of the user")
    check_trained(found)
    return found


def check_trained(found: Sequence[Message]) -> None:
    """Refuse an answer of which nothing is trained.

    Raises:
        Unusable: every turn of the assistant has weight 0.
    """
    if all(message.get("weight") == 0 for message in found if message["role"] == "assistant"):
        raise Unusable("every turn of the assistant has weight 0", expected=True)


def messages(value: Any, column: str) -> list[Message]:
    """The messages of a list, in any order, with checked roles and contents.

    Raises:
        Unusable: it is no list, is empty, or a message in it cannot be used.
    """
    value = turned(value)
    if not isinstance(value, (list, tuple)):
        raise Unusable(f"{column!r} is {kind(value)}, not a list of messages")
    if not value:
        raise Unusable(f"{column!r} is an empty list")
    found: list[Message] = []
    for item in value:
        role, message = _message(item, column)
        last = found[-1] if found else {}
        if role == "function_call" and last.get("role") == "assistant" and last.get("weight") == message.get("weight"):
            # a call with a role of its own after the assistant's words, or after another call, is of the same turn
            last["tool_calls"] = [*last.get("tool_calls", ()), *message["tool_calls"]]
        else:
            found.append(message)
    return found


def check_order(found: Sequence[Message]) -> None:
    """Refuse system messages that are not first, turns that do not alternate, and results that nobody asked for.

    The user or, with a greeting, the assistant begins; results of tools, one or more, follow the assistant's turn, and
    the assistant's next turn follows them.

    Raises:
        Unusable: what is out of order.
    """
    roles = [message["role"] for message in found]
    if roles.count("system") > 1:
        raise Unusable("two system messages")
    if "system" in roles[1:]:
        raise Unusable("the system message is not the first")
    turns = [message for message in found if message["role"] != "system"]
    if turns and turns[0]["role"] == "tool":
        raise Unusable("the conversation starts with a tool's result")
    for one, two in pairwise(turns):
        _check_pair(one, two)
    _check_ids(turns)


def _check_pair(one: Message, two: Message) -> None:
    pair = one["role"], two["role"]
    if pair in (("user", "user"), ("assistant", "assistant")):
        raise Unusable("user and assistant do not alternate")
    if pair == ("user", "tool"):
        raise Unusable("a tool's result follows the user, not a call")
    if pair == ("tool", "user"):
        raise Unusable("the user follows a tool's result, not the assistant")
    if pair == ("assistant", "user") and one.get("tool_calls"):
        raise Unusable("the user follows a tool call, not its result")


def _check_ids(turns: Sequence[Message]) -> None:
    """Refuse a result that names another call than those before it."""
    asked: set[str] | None = None
    for message in turns:
        if message["role"] == "assistant":
            made = message.get("tool_calls", ())
            asked = {call["id"] for call in made} if made and all("id" in call for call in made) else None
        elif message["role"] == "tool" and asked is not None and message.get("tool_call_id", min(asked)) not in asked:
            raise Unusable("'tool_call_id' names no call of the turn before it")


def _message(item: Any, column: str) -> tuple[str, Message]:
    """The role as the file means it, and the message."""
    if not isinstance(item, Mapping):
        raise Unusable(f"a message in {column!r} is {kind(item)}, not an object")
    if item.keys() == {"role", "content"}:  # as most are
        name, said = item["role"], item["content"]
        if isinstance(name, str) and isinstance(said, str) and name in PLAIN:
            return name, {"role": name, "content": clean(said, PLAIN[name])}
    for key, value in item.items():
        if key in REFUSED and filled(value):
            raise Unusable(f"a message has {key!r}: {REFUSED[key]}; `ignore` can leave it out")
    role = _role(item)
    name = "assistant" if role == "function_call" else role
    message: Message = {"role": name}
    written, content = one_of(item, CONTENT_KEYS)
    if not written:
        content = next((item[key] for key in CONTENT_KEYS if item.get(key) is not None), None)
    said, thought = joined(content, role)
    made = _calls(item, role, said)
    message["content"] = "" if role == "function_call" else _content(said, name, called=bool(made))
    _add_reasoning(message, item, thought)
    if made:
        message["tool_calls"] = made
    if name == "tool":
        for key in ("name", "tool_call_id"):
            if filled(item.get(key)):
                message[key] = clean(item[key], f"{key!r} of a message")
    weight = weights.of_message(item, name)
    return role, message if weight == 1 else {**message, "weight": weight}


def _role(item: Mapping[str, Any]) -> str:
    role = one_of(item, ROLE_KEYS)[1]
    if role is None:
        raise Unusable("a message without a role")
    if not isinstance(role, str):
        raise Unusable(f"a message's role is {kind(role)}, not text")
    if role.strip().lower() not in ROLES:
        raise Unusable(f"unknown role {role[:40]!r}, which `roles` can explain")
    return ROLES[role.strip().lower()]


def _content(said: Any, name: str, *, called: bool) -> str:
    """What a message says. Beside a call there may be nothing, and a tool may give nothing back."""
    blank = isinstance(said, str) and not said.strip()
    if (called and (said is None or blank)) or (name == "tool" and blank):
        return ""
    if said is None:
        raise Unusable(f"a message of the {name} has no content")
    return clean(said, f"a message of the {name}")


def _calls(item: Mapping[str, Any], role: str, said: Any) -> list[dict[str, Any]]:
    made = [call for key in CALL_KEYS if filled(item.get(key)) for call in calls(item[key])]
    if role == "function_call":
        made = [*made, *calls(said)] if filled(said) else made
        if not made:
            raise Unusable("a message of the function call has no call")
    elif made and role != "assistant":
        raise Unusable(f"a message of the {role} calls a tool")
    if (
        len(made) == 2
        and all(filled(item.get(key)) for key in CALL_KEYS)
        and made[0]["function"] == made[1]["function"]
    ):
        return made[:1]  # one call, written in the old way and in the new one
    return made


def _add_reasoning(message: Message, item: Mapping[str, Any], thought: str) -> None:
    key, value = one_of(item, REASONING_KEYS)
    if key:
        if thought and thought != value:
            raise Unusable(f"{key!r} and the thinking parts of a message differ")
        thought = clean(value, f"{key!r} of a message")
    if not thought or thought.isspace():
        return
    if message["role"] != "assistant":
        raise Unusable(f"a message of the {message['role']} has reasoning")
    message["reasoning_content"] = clean(thought, "the reasoning of a message")
