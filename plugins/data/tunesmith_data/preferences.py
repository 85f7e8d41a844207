"""Rows that say which answers are wanted: the formats of pairs and of answers with a verdict, as files write them."""

from __future__ import annotations

import re
from typing import Any

from tunesmith_data.form import Format, Row
from tunesmith_data.messages import Message, check_trained, conversation, messages
from tunesmith_data.pairs import (
    alpaca,
    as_assistant,
    check_turn,
    instruction,
    paired,
    preference,
    prompt_and_completion,
    side,
)
from tunesmith_data.raw import BARE
from tunesmith_data.values import VERDICTS, Unusable, clean, filled, from_json, get, judged, one_of, text, verdict

#: Columns that hold a conversation.
CONVERSATIONS = ("messages", "conversations", BARE)
#: A turn in a text that is a whole conversation, as in Anthropic's HH.
TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):")
SPEAKERS = {"Human": "user", "Assistant": "assistant"}


def unpaired(row: Row) -> dict[str, Any]:
    """A prompt, an answer, and whether it is wanted."""
    return {**prompt_and_completion(row), "label": verdict(row)}


def unpaired_alpaca(row: Row) -> dict[str, Any]:
    """An instruction, an output, and whether it is wanted."""
    return {**alpaca(row), "label": verdict(row)}


def unpaired_messages(row: Row) -> dict[str, Any]:
    """A conversation whose last answer, all that follows the last turn of the user, is wanted or not."""
    column, found = _conversation(row)
    last = max((place for place, message in enumerate(found) if message["role"] == "user"), default=-1)
    prompt, answer = found[: last + 1], found[last + 1 :]
    check_turn(prompt, answer, column)
    check_trained(answer)
    return {"prompt": prompt, "completion": answer, "label": verdict(row)}


def continued(row: Row) -> dict[str, Any]:
    """A conversation and the two ways in which it may go on."""
    column, value = one_of(row, CONVERSATIONS)
    found = messages(from_json(value), column or CONVERSATIONS[0])
    return paired(found, as_assistant(side(row, "chosen")), as_assistant(side(row, "rejected")))


def with_rejected(row: Row) -> dict[str, Any]:
    """A conversation that ends with the better answer, and the worse one: its text, or a whole conversation."""
    column, found = _conversation(row)
    name, value = one_of(row, ("rejected_response", "rejected_messages"))
    value = from_json(value) if name == "rejected_messages" else value
    prompt, chosen = found[:-1], found[-1:]
    check_turn(prompt, chosen, column)
    rejected = as_assistant(side({**row, name: value}, name)) if name else as_assistant(text(row, "rejected_response"))
    if rejected[: len(prompt)] == prompt:
        rejected = rejected[len(prompt) :]
    elif rejected and rejected[0]["role"] != "assistant":
        raise Unusable(f"{name!r} does not begin as {column!r} does")
    if chosen == rejected:
        raise Unusable(f"{name!r} equals the answer in {column!r}")
    check_turn(prompt, rejected, name)
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def two_conversations(row: Row) -> dict[str, Any]:
    """Two whole conversations, or their last turns behind a prompt."""
    names = ("chosen_messages", "rejected_messages")
    column, value = one_of(row, CONVERSATIONS)
    prompt = messages(from_json(value), column) if column else side(row, "prompt") if filled(row.get("prompt")) else []
    chosen, rejected = (as_assistant(side({name: from_json(get(row, name))}, name)) for name in names)
    return paired(prompt, chosen, rejected, names)


def preferred_alpaca(row: Row) -> dict[str, Any]:
    """An instruction with its better and its worse answer."""
    return paired(instruction(row), side(row, "chosen"), side(row, "rejected"))


def transcripts(row: Row) -> dict[str, Any]:
    """Two texts that are whole conversations: alike up to the last turn of the assistant, which is the answer."""
    chosen, rejected = (_spoken(text(row, name), name) for name in ("chosen", "rejected"))
    if chosen == rejected:
        raise Unusable("'chosen' equals 'rejected'")
    prompt = chosen[:-1]
    if rejected[:-1] != prompt:
        raise Unusable("'chosen' and 'rejected' differ before their last turn")
    check_turn(prompt, chosen[-1:], "chosen")
    check_turn(prompt, rejected[-1:], "rejected")
    return {"prompt": prompt, "chosen": chosen[-1:], "rejected": rejected[-1:]}


def is_transcript(row: Row) -> bool:
    """Whether the answers are whole conversations as text, without a prompt of their own."""
    answers = [row.get(name) for name in ("chosen", "rejected")]
    return not filled(row.get("prompt")) and any(isinstance(answer, str) and TURN.match(answer) for answer in answers)


def _spoken(said: str, name: str) -> list[Message]:
    """The turns of a text."""
    start, *rest = TURN.split(said)
    if start.strip():
        raise Unusable(f"{name!r} does not begin with a turn: Human: or Assistant:")
    turns = zip(rest[::2], rest[1::2], strict=True)
    found = [
        {"role": SPEAKERS[who], "content": clean(words.strip(), f"a turn of {who} in {name!r}")} for who, words in turns
    ]
    if not found or found[-1]["role"] != "assistant":
        raise Unusable(f"{name!r} does not end with the assistant")
    return found


def _conversation(row: Row) -> tuple[str, list[Message]]:
    column, value = one_of(row, CONVERSATIONS)
    return column, conversation(value, column or CONVERSATIONS[0])


#: What becomes of the columns that several formats have.
PROMPT = {"prompt": "what the user asks: text, or messages that end with the user's or a tool's"}
COMPLETION = {"completion": "the answer: text, or messages that begin with the assistant's"}
INSTRUCTION = {"instruction": "what the user asks", "input": "more of it, after a blank line; may be empty"}
_TALK = dict.fromkeys(CONVERSATIONS, "the conversation, in one of these columns: a list of messages, or JSON of one")
_ANSWERS = {
    "chosen": "the better answer: text, a message, or messages",
    "rejected": "the worse answer, written as the better one",
}
_VERDICT = dict.fromkeys(VERDICTS, "whether the answer is wanted: true or false, 1 or 0, also as text")
_EITHER = "|".join(VERDICTS)
_ANY_TALK = "|".join(CONVERSATIONS)

PREFERENCES = (
    Format(
        "preference-messages",
        "preference (a conversation, chosen, rejected)",
        "preference",
        (_ANY_TALK, "chosen", "rejected"),
        continued,
        {**_TALK, **_ANSWERS},
    ),
    Format(
        "preference-alpaca",
        "preference (instruction, chosen, rejected)",
        "preference",
        ("instruction", "chosen", "rejected"),
        preferred_alpaca,
        {**INSTRUCTION, **_ANSWERS},
        only=lambda row: not filled(row.get("prompt")),
    ),
    Format(
        "transcripts",
        "preference (chosen, rejected as whole texts, split at the assistant's last turn)",
        "preference",
        ("chosen", "rejected"),
        transcripts,
        dict.fromkeys(("chosen", "rejected"), "a whole conversation as text, with turns `Human:` and `Assistant:`"),
        only=is_transcript,
    ),
    Format(
        "preference",
        "preference (prompt, chosen, rejected)",
        "preference",
        ("chosen", "rejected"),
        preference,
        {
            "prompt": f"{PROMPT['prompt']}; may be left out where both answers begin with it",
            **_ANSWERS,
        },
    ),
    Format(
        "rejected-response",
        "preference (a conversation with its better answer, and the rejected one)",
        "preference",
        (_ANY_TALK, "rejected_response|rejected_messages"),
        with_rejected,
        {
            **_TALK,
            "rejected_response": "the worse answer: text, a message, or messages",
            "rejected_messages": "the conversation with the worse answer",
        },
        only=lambda row: not filled(row.get("chosen_messages")),
    ),
    Format(
        "chosen-messages",
        "preference (chosen_messages, rejected_messages)",
        "preference",
        ("chosen_messages", "rejected_messages"),
        two_conversations,
        {
            **PROMPT,
            **_TALK,
            "chosen_messages": "the conversation with the better answer, or this alone beside its prompt",
            "rejected_messages": "the conversation with the worse answer, written as the better one",
        },
    ),
    Format(
        "unpaired-preference",
        "unpaired preference (prompt, completion, label)",
        "unpaired-preference",
        ("prompt", "completion", _EITHER),
        unpaired,
        {**PROMPT, **COMPLETION, **_VERDICT},
    ),
    Format(
        "unpaired-messages",
        "unpaired preference (a conversation, label)",
        "unpaired-preference",
        (_ANY_TALK, _EITHER),
        unpaired_messages,
        {**_TALK, **_VERDICT},
        only=judged,
    ),
    Format(
        "unpaired-alpaca",
        "unpaired preference (instruction, output, label)",
        "unpaired-preference",
        ("instruction", "output", _EITHER),
        unpaired_alpaca,
        {**INSTRUCTION, "output": "the answer", **_VERDICT},
        only=judged,
    ),
)
