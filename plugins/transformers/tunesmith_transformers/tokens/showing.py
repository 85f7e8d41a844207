"""Encoded rows as people read them: each token with the text that it adds, for `tunesmith data show --mask`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tunesmith import Shown, Token
from tunesmith_transformers.tokens.example import Encoded
from tunesmith_transformers.tokens.pairs import Pair

BROKEN = "\ufffd"  # what decoding gives for a part of a character
LONGEST = 8  # tokens that may make one character together


def shown(encoded: Encoded, tokenizer: Any, title: str = "") -> Shown:
    """One encoded row with the text of each token and what it counts.

    Args:
        title: which of the row's sequences it is.
    """
    pairs = zip(texts(encoded.ids, tokenizer), encoded.loss_weights, strict=True)
    part = f"example {encoded.part}" if encoded.part else ""
    tokens = [Token(text, weight) for text, weight in pairs]
    return Shown(encoded.row, tokens, ", ".join(filter(None, (title, part))), part=encoded.part)


def shown_pair(pair: Pair, tokenizer: Any) -> list[Shown]:
    """A pair: the prompt with its chosen answer, then with its rejected one."""
    sides = {"chosen": pair.chosen, "rejected": pair.rejected}
    return [shown(replace(side, weights=()), tokenizer, title) for title, side in sides.items()]


def texts(ids: Sequence[int], tokenizer: Any) -> list[str]:
    """What each token adds to the text.

    Tokens that make up one character add nothing before its last one: only together they can be read. Each token is
    decoded behind the ones before it, because many tokenizers write a blank only between two.
    """
    found = [""] * len(ids)
    before, start = 0, 0  # of the last text that was whole, of what comes after it
    for place in range(len(ids)):
        known = _decoded(ids[before:start], tokenizer)
        text = _decoded(ids[before : place + 1], tokenizer)
        added = text[len(known) :] if text.startswith(known) else _decoded(ids[start : place + 1], tokenizer)
        if added.endswith(BROKEN) and place - start + 1 < LONGEST and place + 1 < len(ids):
            continue
        found[place] = added
        before, start = start, place + 1
    return found


def _decoded(ids: Sequence[int], tokenizer: Any) -> str:
    return tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False) if ids else ""
