"""What a reward model reads, token by token, as `tunesmith data show --mask` displays it."""

from __future__ import annotations

from typing import Any

from tunesmith import Records
from tunesmith_reward.settings import RewardSettings
from tunesmith_transformers.tokens.encoding import marked
from tunesmith_transformers.tokens.pairs import encode_pairs


def preview(
    records: Records, record_type: str, settings: RewardSettings, tokenizer: Any
) -> list[list[tuple[str, bool]]]:
    """Each row's tokens as (text, scored): the prompt with its chosen answer, then with its rejected one.

    A score is read at the last token of each, and that token is the one marked.
    """
    shown = []
    found = encode_pairs(records, tokenizer, max_length=settings.max_length, overlong=settings.overlong, turns="last")
    for pair in found:
        sides = [marked(side, tokenizer) for side in (pair.chosen, pair.rejected)]
        shown.append([(text, place == len(side)) for side in sides for place, (text, _) in enumerate(side, 1)])
    return shown
