"""Rows that pair a prompt with what follows it; each side may be text or a list of messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunesmith_data.messages import Message, check_order, check_trained, messages
from tunesmith_data.raw import kind, turn
from tunesmith_data.values import Unusable, clean, get, text

Row = Mapping[str, Any]
Side = str | list[Message]


def prompt_and_completion(row: Row) -> dict[str, Any]:
    """Both as text, or both as messages when one of them is."""
    prompt, completion = side(row, "prompt"), side(row, "completion")
    if isinstance(prompt, str) and isinstance(completion, str):
        return {"prompt": prompt, "completion": completion}
    asked, answered = as_user(prompt), as_assistant(completion)
    check_turn(asked, answered, "completion")
    check_trained(answered)
    return {"prompt": asked, "completion": answered}


def prompt_only(row: Row) -> dict[str, Any]:
    """A prompt as text, or as messages that end with the user's."""
    prompt = side(row, "prompt")
    if not isinstance(prompt, str):
        check_order(prompt)
        _check_end(prompt)
    return {"prompt": prompt}


def alpaca(row: Row) -> dict[str, Any]:
    """Instruction with its input as the prompt, and the output."""
    return {"prompt": instruction(row), "completion": text(row, "output")}


def instruction(row: Row) -> str:
    """Instruction and optional input, a blank line between them (without Alpaca's preamble)."""
    prompt = text(row, "instruction")
    extra = row.get("input")
    if extra is None or (isinstance(extra, str) and not extra.strip()):
        return prompt
    return f"{prompt}\n\n{clean(extra, repr('input'))}"


def preference(row: Row) -> dict[str, Any]:
    """A prompt with a chosen and a rejected answer.

    Answers that are lists of messages may begin with the prompt: their common beginning is the prompt.
    """
    chosen, rejected = side(row, "chosen"), side(row, "rejected")
    plain = isinstance(chosen, str) and isinstance(rejected, str)
    prompt = side(row, "prompt") if plain or row.get("prompt") is not None else []
    return paired(prompt, chosen, rejected)


def paired(
    prompt: Side, chosen: Side, rejected: Side, names: tuple[str, str] = ("chosen", "rejected")
) -> dict[str, Any]:
    """A pair, all of text or all of messages. Answers of messages may begin with the prompt, which may then be empty.

    A prompt that is one of the answers whole, as UltraFeedback's `messages` is `chosen`, says nothing of its own.

    Args:
        names: the columns of the answers, for reasons.

    Raises:
        Unusable: the answers are alike, or do not fit the prompt.
    """
    if chosen == rejected:
        raise Unusable(f"{names[0]!r} equals {names[1]!r}")
    if isinstance(chosen, str) and isinstance(rejected, str):
        if isinstance(prompt, str):
            return {"prompt": prompt, "chosen": chosen, "rejected": rejected}
        shared: list[Message] = []
        one, two = as_assistant(chosen), as_assistant(rejected)
    elif isinstance(chosen, str) or isinstance(rejected, str):
        raise Unusable(f"{names[0]!r} is {kind(chosen)} but {names[1]!r} is {kind(rejected)}")
    else:
        shared, one, two = _split_common(chosen, rejected)
        whole = not isinstance(prompt, str) and prompt in (chosen, rejected) and len(prompt) > 1
        prompt = [] if whole else prompt
    asked = _whole_prompt(prompt, shared)
    if not asked:
        raise Unusable("no 'prompt', and the answers do not begin alike")
    check_turn(asked, one, names[0])
    check_turn(asked, two, names[1])
    check_trained(one)
    check_trained(two)
    return {"prompt": asked, "chosen": one, "rejected": two}


def as_user(side: str | list[Message]) -> list[Message]:
    """Text as the user's message; messages as they are."""
    return [{"role": "user", "content": side}] if isinstance(side, str) else side


def as_assistant(side: str | list[Message]) -> list[Message]:
    """Text as the assistant's message; messages as they are."""
    return [{"role": "assistant", "content": side}] if isinstance(side, str) else side


def untrained(message: Message) -> Message:
    """A message that is read and not trained, as the turns of a prompt are."""
    return {**message, "weight": 0.0} if message["role"] == "assistant" else message


def as_chat(row: Mapping[str, Any], system: str | None = None) -> dict[str, Any]:
    """A row whose plain prompt and answers are messages, with a system message when it has none."""
    found = dict(row)
    if "prompt" in found:
        found["prompt"] = as_user(found["prompt"])
    for column in ("completion", "chosen", "rejected"):
        if column in found:
            found[column] = as_assistant(found[column])
    if "answers" in found:
        found["answers"] = [as_assistant(answer) for answer in found["answers"]]
    first = "messages" if "messages" in found else "prompt"
    if system and found[first][0]["role"] != "system":
        found[first] = [{"role": "system", "content": system}, *found[first]]
    return found


def side(row: Row, column: str) -> Side:
    """A column as text, or as messages where it is a list, or one message."""
    value = get(row, column)
    if turn(value):
        value = [value]
    return messages(value, column) if isinstance(value, (list, tuple)) else text(row, column)


def _split_common(one: list[Message], two: list[Message]) -> tuple[list[Message], list[Message], list[Message]]:
    """The common beginning of two lists, and the rest of each."""
    length = 0
    while length < min(len(one), len(two)) and one[length] == two[length]:
        length += 1
    return one[:length], one[length:], two[length:]


def _whole_prompt(prompt: str | list[Message], shared: list[Message]) -> list[Message]:
    """The prompt column and the answers' common beginning, which may repeat it, as one list."""
    if isinstance(prompt, str):
        repeated = any(m["role"] == "user" and m["content"].strip() == prompt.strip() for m in shared)
    else:
        repeated = shared[: len(prompt)] == prompt
    return shared if repeated else [*as_user(prompt), *shared]


def check_turn(prompt: list[Message], answer: list[Message], column: str) -> None:
    """Refuse an answer that does not follow its prompt.

    Raises:
        Unusable: why it does not.
    """
    if not answer:
        raise Unusable(f"{column!r} holds no more than the prompt")
    _check_end(prompt)
    if answer[0]["role"] != "assistant":
        raise Unusable(f"{column!r} does not start with the assistant")
    check_order([*prompt, *answer])


def _check_end(prompt: list[Message]) -> None:
    if prompt[-1]["role"] not in ("user", "tool"):
        raise Unusable("'prompt' does not end with the user")
