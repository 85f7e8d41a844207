"""Pairs as the trainers learn from them, for a run and for `tunesmith data`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tunesmith import Context, DataError, Dataset, ModelHandle, Shown
from tunesmith_preference import objectives
from tunesmith_preference.reference import limit_of
from tunesmith_preference.settings import DpoSettings, PreferenceSettings
from tunesmith_transformers.tokens import cache as token_cache
from tunesmith_transformers.tokens.batching import Rows
from tunesmith_transformers.tokens.pairs import Pair, check_pairs, encode_pairs
from tunesmith_transformers.tokens.showing import shown_pair

Handles = Mapping[str, ModelHandle]


def encode(data: Dataset, handles: Handles, settings: PreferenceSettings, context: Context) -> Rows[Pair]:
    """Encode the training pairs and check them; the ledger, the facts and the console are told.

    Raises:
        DataError: too many pairs are lost, none can be used, or a loss cannot weigh them.
        RecipeError: max_length is more than the models take.
    """
    policy = handles["policy"]
    pairs = token_cache.encode_pairs(
        data.train,
        policy.tokenizer,
        context,
        max_length=limit_of(handles, settings),
        overlong=settings.overlong,
        turns=settings.turns,
        columns=policy.columns,
        keep=settings.token_cache,
    )
    check_pairs(pairs, policy.tokenizer, context)
    _check_weights(pairs, settings)
    return Rows(pairs, [pair.length for pair in pairs])


def show(data: Dataset, handles: Handles, settings: PreferenceSettings, context: Context) -> list[Shown]:
    """The training pairs token by token: the prompt with its chosen answer, then with its rejected one."""
    tokenizer = handles["policy"].tokenizer
    found = encode_pairs(
        data.train,
        tokenizer,
        max_length=limit_of(handles, settings),
        overlong=settings.overlong,
        turns=settings.turns,
        ledger=context.ledger,
    )
    return [side for pair in found for side in shown_pair(pair, tokenizer)]


def _check_weights(pairs: Sequence[Pair], settings: PreferenceSettings) -> None:
    """Refuse weights where a loss compares sorted values of a batch, which are no pair's own.

    Raises:
        DataError: naming the first rows.
    """
    weighted = [pair.row for pair in pairs if pair.weight != 1]
    if weighted and isinstance(settings, DpoSettings) and objectives.dpo(settings).sorts:
        raise DataError(
            f"{len(weighted)} of {len(pairs)} rows have a weight, and loss_type aot sorts the values of a batch",
            details=weighted[:5],
            fix="Choose another loss_type in [trainer], or leave the weights out of the rows.",
        )
