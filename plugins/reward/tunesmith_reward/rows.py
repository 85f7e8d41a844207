"""Pairs as a reward model learns from them, for a run and for `tunesmith data`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tunesmith import Context, Dataset, ModelHandle, Shown, Token
from tunesmith_reward.settings import RewardSettings
from tunesmith_transformers.tokens import cache as token_cache
from tunesmith_transformers.tokens.batching import Rows
from tunesmith_transformers.tokens.pairs import Pair, check_pairs, encode_pairs, margins
from tunesmith_transformers.tokens.showing import shown_pair
from tunesmith_transformers.training.arguments import longest

Handles = Mapping[str, ModelHandle]
TURNS = "last"  # a score is read at the end of what serving would show it


def encode(data: Dataset, handles: Handles, settings: RewardSettings, context: Context) -> Rows[Pair]:
    """Encode the training pairs and check them; the ledger, the facts and the console are told.

    Raises:
        DataError: too many pairs are lost, none can be used, or margins are wanted and lacking.
        RecipeError: max_length is more than the model takes.
    """
    handle = handles["model"]
    pairs = token_cache.encode_pairs(
        data.train,
        handle.tokenizer,
        context,
        max_length=longest(settings, handle.max_length),
        overlong=settings.overlong,
        turns=TURNS,
        columns=handle.columns,
        keep=settings.token_cache,
    )
    check_pairs(pairs, handle.tokenizer, context)
    if settings.margin_scale:
        margins(pairs)  # refused here, and not in the middle of an epoch
    return Rows(pairs, [pair.length for pair in pairs])


def show(data: Dataset, handles: Handles, settings: RewardSettings, context: Context) -> list[Shown]:
    """The training pairs token by token: the prompt with its chosen answer, then with its rejected one.

    A score is read at the last token of each, and that token is the one that counts.
    """
    handle = handles["model"]
    found = encode_pairs(
        data.train,
        handle.tokenizer,
        max_length=longest(settings, handle.max_length),
        overlong=settings.overlong,
        turns=TURNS,
        ledger=context.ledger,
    )
    sides = [side for pair in found for side in shown_pair(pair, handle.tokenizer)]
    return [replace(side, tokens=_last(side)) for side in sides]


def _last(side: Shown) -> list[Token]:
    """The tokens of which only the last one counts."""
    count = len(side.tokens)
    return [replace(token, weight=float(place == count)) for place, token in enumerate(side.tokens, 1)]
