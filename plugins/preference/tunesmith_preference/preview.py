"""What is supervised, token by token, as `tunesmith data show --mask` displays it."""

from __future__ import annotations

from typing import Any

from tunesmith import Records
from tunesmith_preference.settings import PreferenceSettings, one_or_last
from tunesmith_transformers.tokens.encoding import encode, marked
from tunesmith_transformers.tokens.pairs import encode_pairs

Shown = list[list[tuple[str, bool]]]


def pairs(records: Records, record_type: str, settings: PreferenceSettings, tokenizer: Any) -> Shown:
    """Each row's tokens as (text, supervised): the prompt with its chosen answer, then with its rejected one."""
    found = encode_pairs(
        records, tokenizer, max_length=settings.max_length, overlong=settings.overlong, turns=settings.turns
    )
    return [[*marked(pair.chosen, tokenizer), *marked(pair.rejected, tokenizer)] for pair in found]


def answers(records: Records, record_type: str, settings: PreferenceSettings, tokenizer: Any) -> Shown:
    """Each row's tokens as (text, supervised): the prompt with its answer."""
    turns = one_or_last(settings)
    found = encode(
        records, "prompt-completion", tokenizer, max_length=settings.max_length, overlong=settings.overlong, turns=turns
    )
    return [marked(row, tokenizer) for row in found]
