"""A conversation as training examples: each turn of the assistant as serving would see it.

Where a template writes earlier turns the same way in later ones, a conversation is one example. Where it rewrites them
(reasoning is left out of what is past), a turn that does not go on from the example before it begins one of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tunesmith_transformers.tokens.ends import end_ids, end_texts
from tunesmith_transformers.tokens.example import WEIGHTLESS, Tokens, Unusable, weight_of
from tunesmith_transformers.tokens.rendering import Talk, check_answer, check_context, rendered, thought_of, tokens_of

OPENED = re.compile(r"<think>\s*\Z")  # a generation prompt that begins the reasoning for the model
CLOSE = "</think>"


def conversation(talk: Talk, tokenizer: Any, *, supervise: str, turns: str) -> list[Tokens]:
    """The examples of a conversation, in the order of its turns.

    Args:
        supervise: `answers` supervises the assistant's turns from `talk.answer` on; `all` whatever stands before them,
            too, each token in the first example that holds it.
        turns: `all`, or `last` for the last turn of the assistant alone.

    Raises:
        Unusable: no turn can be supervised, or the template leaves something out.
    """
    whole = supervise == "all"
    first = 0 if whole else talk.answer
    places = [n for n, message in enumerate(talk.messages) if n >= first and message["role"] == "assistant"]
    if not places or places[-1] < talk.answer:
        raise Unusable("no turn of the assistant is in the answer")
    weights = {n: weight_of(talk.messages[n], "a message's") for n in places}
    if turns == "last" and not whole:
        places = places[-1:]
    if not any(weights[n] for n in places):
        raise Unusable(WEIGHTLESS)
    found: list[Tokens] = []
    for place in places:
        if not weights[place] and not whole:  # read with the turns after it
            continue
        if not place:  # a greeting, for which serving asks no model: it is read, too
            continue
        ids, start = _turn(tokenizer, talk, place)
        before = found[-1] if found else Tokens([], [])
        shared = _shared(before.ids, ids)
        if shared == len(before.ids) and found:
            found.pop()
            held = before.weights[:start]
        else:
            held = [0.0] * min(shared, start)
        between = [1.0 if whole else 0.0] * (start - len(held))
        found.append(Tokens(ids, [*held, *between, *[weights[place]] * (len(ids) - start)]))
    if not found:
        raise Unusable("no message before the answer")
    check_context(tokenizer, talk, places[-1])
    if turns == "last":
        found = [_whole(found[-1], weights.values()) if whole else found[-1]]
    return [tokens for tokens in found if any(tokens.weights)]


def _whole(tokens: Tokens, weights: Any) -> Tokens:
    """The last example of a conversation of which all is supervised, what earlier examples shared with it included."""
    if not all(weights):  # where earlier turns stand in it cannot be told
        return tokens
    start = next((n for n, weight in enumerate(tokens.weights) if weight), 0)
    return Tokens(tokens.ids, [*[1.0] * start, *tokens.weights[start:]])


def _shared(one: list[int], other: list[int]) -> int:
    """How many tokens two lists have in common at their beginning."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def _turn(tokenizer: Any, talk: Talk, place: int) -> tuple[list[int], int]:
    """Ids up to the end of a turn, and how many of them come before its first token.

    Raises:
        Unusable: the template does not go on from its own generation prompt, or does not end the turn.
    """
    head = rendered(tokenizer, talk, place, generation_prompt=True)
    whole = rendered(tokenizer, talk, place + 1, generation_prompt=False)
    before, ids = tokens_of(tokenizer, head), tokens_of(tokenizer, whole)
    text = _answer(head, whole, talk.messages[place])
    if head + text != whole or ids[: len(before)] != before:
        # the prompt is tokenized by itself, as serving does, and the answer goes on from there
        ids = [*before, *tokens_of(tokenizer, text)]
    ends = end_ids(tokenizer)
    end = len(ids)
    while end > len(before) and ids[end - 1] not in ends:
        end -= 1
    if end == len(before):  # the template writes no end token: serving would not stop there either
        raise Unusable(f"the chat template does not end the answer with {' or '.join(map(repr, end_texts(tokenizer)))}")
    check_answer(tokenizer, talk, place, text)
    return ids[:end], len(before)


def _answer(head: str, whole: str, message: Mapping[str, Any]) -> str:
    """What the model writes after a generation prompt, up to where the template has it end.

    A template may leave the reasoning out of a turn, although the model writes it, and may begin it for the model. It
    is put back then; without any it is an empty one.
    """
    opened = OPENED.search(head)
    if whole.startswith(head):
        body = whole[len(head) :]
        written = True
    elif opened and whole.startswith(head[: opened.start()]):
        body = whole[opened.start() :].removeprefix("<think>")
        written = len(body) < len(whole) - opened.start()
        body = body.lstrip() if written else body
    else:
        raise Unusable("the chat template does not continue its own generation prompt")
    thought = thought_of(message).strip()
    if written and (not thought or CLOSE not in str(message.get("content") or "") or thought in body):
        return body
    before = "" if opened else "<think>\n"
    apart = "" if body[:1].isspace() else "\n\n"
    return f"{before}{thought}\n{CLOSE}{apart}{body}"
