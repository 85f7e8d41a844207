"""A conversation through a chat template: what serving feeds the model, and whether all that the row says is in it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from weakref import WeakKeyDictionary

from tunesmith import DataError
from tunesmith_transformers.tokens.ends import end_texts
from tunesmith_transformers.tokens.example import Unusable

PROBE = "7305186429"  # stands where a text was, to see whether a template that changes texts shows it at all
EXTRAS = ("tools", "chat_template_kwargs")  # keys of a row that its conversation is rendered with
#: Names by which templates know a turn's reasoning.
REASONING = ("reasoning_content", "reasoning", "thinking")
#: What a row may not hand to a template: what is rendered, and how.
RESERVED = {
    *("add_generation_prompt", "chat_template", "continue_final_message", "conversation", "conversations"),
    *("documents", "messages", "return_assistant_tokens_mask", "return_dict", "return_tensors", "tokenize", "tools"),
}


@dataclass(frozen=True)
class Talk:
    """A conversation as a row has it.

    Args:
        messages: its turns, in order.
        answer: the place of the first turn that belongs to the answer.
        tools: JSON schemas of what may be called.
        options: further variables of the chat template.
    """

    messages: Sequence[Mapping[str, Any]]
    answer: int = 0
    tools: Sequence[Mapping[str, Any]] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


def talk_of(
    row: Mapping[str, Any], messages: Sequence[Mapping[str, Any]], answer: int = 0, tokenizer: Any = None
) -> Talk:
    """Turns with the tools and template variables of their row.

    Raises:
        Unusable: a turn holds what marks turns, or the row sets what it may not.
    """
    talk = Talk(list(messages), answer, list(row.get("tools") or ()), dict(row.get("chat_template_kwargs") or {}))
    if tokenizer is not None:
        _check(talk, tokenizer)
    return talk


def extras(row: Mapping[str, Any]) -> dict[str, Any]:
    """What of a row its conversation is rendered with, besides its turns."""
    return {name: row[name] for name in EXTRAS if row.get(name)}


def rendered(tokenizer: Any, talk: Talk, count: int | None = None, *, generation_prompt: bool) -> str:
    """The first `count` turns as text.

    Raises:
        DataError: the tokenizer has no chat template.
        Unusable: the template refuses the conversation.
    """
    template = _template(tokenizer)
    from jinja2.exceptions import TemplateError

    key = next((name for name in REASONING if name in template), REASONING[0])
    turns = [_shown(message, key) for message in talk.messages[:count]]
    given = {**({"tools": list(talk.tools)} if talk.tools else {}), **talk.options}
    try:
        return str(
            tokenizer.apply_chat_template(turns, add_generation_prompt=generation_prompt, tokenize=False, **given)
        )
    except (TemplateError, TypeError, KeyError) as error:
        raise Unusable(f"the chat template refuses it: {error}") from error


def tokens_of(tokenizer: Any, text: str) -> list[int]:
    """A rendered text as ids; the template has written the special tokens itself."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def check_context(tokenizer: Any, talk: Talk, count: int) -> None:
    """Refuse a conversation of which the template leaves something out before turn `count`.

    The reasoning of earlier turns may be: serving would leave it out too.

    Raises:
        Unusable: it says what is left out.
    """
    text = rendered(tokenizer, talk, count, generation_prompt=True)
    for tool in talk.tools:
        name = str(_function(tool).get("name", ""))
        if name and not _holds(text, name):
            asked = replace(talk, tools=[_renamed(tool)])
            _probe(tokenizer, asked, count, True, "the chat template does not render `tools`")
    for place, message in enumerate(talk.messages[:count]):
        if not all(_holds(text, said) for said in _said(message, thought=False)):
            _check_turn(tokenizer, talk, place, count, text, answer=False)


def check_answer(tokenizer: Any, talk: Talk, place: int, text: str) -> None:
    """Refuse a conversation whose answer the template does not write whole.

    Args:
        place: of the turn that is the answer.
        text: what is supervised of it.

    Raises:
        Unusable: it says what is left out.
    """
    if not all(_holds(text, said) for said in _said(talk.messages[place], thought=True)):
        _check_turn(tokenizer, talk, place, place + 1, text, answer=True)


def thought_of(message: Mapping[str, Any]) -> str:
    """A turn's reasoning, without the tags around it: its own key, or what stands before `</think>`."""
    own = message.get("reasoning_content")
    if own:
        return str(own)
    before, tag, _ = str(message.get("content") or "").rpartition("</think>")
    return before.split("<think>")[-1] if tag else ""


# --- what a template is given ---------------------------------------------------------------------
def _shown(message: Mapping[str, Any], reasoning: str) -> dict[str, Any]:
    """A turn as a template takes it: its weight is ours, and its reasoning has the template's own name."""
    turn = {name: value for name, value in message.items() if name != "weight" and value is not None}
    if "reasoning_content" in turn:
        turn[reasoning] = turn.pop("reasoning_content")
    return turn


def _template(tokenizer: Any) -> str:
    template = tokenizer.chat_template
    if not template:
        raise DataError(
            "the rows are conversations, but the tokenizer has no chat template",
            fix='Set chat_template = FILE, or a name such as "chatml", in [model], or give plain texts.',
        )
    return str(template)


def _check(talk: Talk, tokenizer: Any) -> None:
    template = _template(tokenizer)
    marks = _structural(tokenizer)
    for text in _texts([*talk.messages, *talk.tools, dict(talk.options)]):
        for mark in marks:
            if mark in text:
                raise Unusable(f"a message holds {mark!r}, by which the chat template marks turns")
    for name in talk.options:
        if name in RESERVED or name in tokenizer.special_tokens_map:
            raise Unusable(f"chat_template_kwargs may not set {name!r}")
        if not re.search(rf"\b{re.escape(name)}\b", template):
            raise Unusable(f"the chat template knows no {name!r}, which chat_template_kwargs sets")


def _structural(tokenizer: Any) -> tuple[str, ...]:
    """The special tokens that the chat template writes, and what ends a turn: in a message they would be turns."""
    ends = end_texts(tokenizer)
    state = (str(tokenizer.chat_template), ends)
    found, known = _STRUCTURAL.get(tokenizer, (None, ()))
    if found != state:
        special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
        known = tuple(sorted({*(token for token in special if token in state[0]), *ends}))
        _STRUCTURAL[tokenizer] = (state, known)
    return known


_STRUCTURAL: WeakKeyDictionary[Any, tuple[Any, tuple[str, ...]]] = WeakKeyDictionary()


def _texts(value: Any) -> Iterator[str]:
    """Every text in nested data, keys left out."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)


# --- whether it is all there ----------------------------------------------------------------------
def _said(message: Mapping[str, Any], *, thought: bool) -> Iterator[str]:
    """The texts of a turn that a reader must find; its reasoning where it is wanted."""
    yield _content(message)
    if thought:
        yield thought_of(message)
    for call in message.get("tool_calls") or ():
        yield from _called(call)


def _holds(text: str, said: str) -> bool:
    """Whether a text holds another, blanks around it aside, as it is or as JSON writes it."""
    wanted = said.strip()
    return wanted in text or any(json.dumps(wanted, ensure_ascii=plain)[1:-1] in text for plain in (False, True))


def _check_turn(tokenizer: Any, talk: Talk, place: int, count: int, text: str, *, answer: bool) -> None:
    """Look again at a turn that was not found as it is: a template may change texts, and must not lose them.

    Args:
        count: turns that were rendered.
        text: what came out.
        answer: the turn is what is supervised, so that its reasoning counts.
    """
    message = talk.messages[place]

    def probe(told: str, **changes: Any) -> None:
        messages = [*talk.messages[:place], {**message, **changes}, *talk.messages[place + 1 :]]
        _probe(tokenizer, replace(talk, messages=messages), count, not answer, told)

    if not _holds(text, _content(message)):
        probe(f"the chat template leaves out what the role {message.get('role')!r} says", content=PROBE)
    if answer and not _holds(text, thought_of(message)):
        probe(
            "the chat template does not render reasoning_content: write it into the content as the model does, or "
            'leave it out with reasoning = "drop" in [data]',
            reasoning_content=PROBE,
        )
    calls = list(message.get("tool_calls") or ())
    if not all(_holds(text, said) for call in calls for said in _called(call)):
        probe("the chat template does not render `tool_calls`", tool_calls=[_renamed(call) for call in calls])


def _content(message: Mapping[str, Any]) -> str:
    """What a turn says, without reasoning that stands in front of it."""
    content = str(message.get("content") or "")
    return content.rpartition("</think>")[2] if message.get("role") == "assistant" else content


def _called(call: Mapping[str, Any]) -> Iterator[str]:
    yield str(_function(call).get("name", ""))
    yield from _texts(_function(call).get("arguments"))


def _probe(tokenizer: Any, talk: Talk, count: int, generation_prompt: bool, told: str) -> None:
    """Raise `Unusable` where the probe in a conversation does not come out of its template."""
    if PROBE not in rendered(tokenizer, talk, count, generation_prompt=generation_prompt):
        raise Unusable(told)


def _function(thing: Mapping[str, Any]) -> Mapping[str, Any]:
    """The function of a tool or a call, which stands in a key of its own or not."""
    found = thing.get("function")
    return found if isinstance(found, Mapping) else thing


def _renamed(thing: Mapping[str, Any]) -> dict[str, Any]:
    """A tool or a call whose function has the probe for its name."""
    if isinstance(thing.get("function"), Mapping):
        return {**thing, "function": {**thing["function"], "name": PROBE}}
    return {**thing, "name": PROBE}
