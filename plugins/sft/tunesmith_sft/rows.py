"""Rows as supervised fine-tuning learns from them, for a run and for `tunesmith data`."""

from __future__ import annotations

from collections.abc import Mapping

from tunesmith import Context, Dataset, ModelHandle, Shown
from tunesmith_sft import SftSettings
from tunesmith_transformers.tokens import cache as token_cache
from tunesmith_transformers.tokens import encoding as tokens
from tunesmith_transformers.tokens.contract import contract
from tunesmith_transformers.tokens.rows_file import TokenRows
from tunesmith_transformers.tokens.showing import shown
from tunesmith_transformers.training.arguments import longest

Handles = Mapping[str, ModelHandle]


def encode(data: Dataset, handles: Handles, settings: SftSettings, context: Context) -> TokenRows:
    """Encode the training rows and check them; the ledger, the facts and the console are told.

    Raises:
        DataError: no row can be used, or the mask trains nothing.
        RecipeError: max_length is more than the model takes.
    """
    handle = handles["model"]
    encoded = token_cache.encode(
        data.train,
        data.type,
        handle.tokenizer,
        context,
        max_length=longest(settings, handle.max_length),
        overlong=settings.overlong,
        supervise=settings.supervise,
        turns=settings.turns,
        columns=handle.columns,
        keep=settings.token_cache,
    )
    context.check_rows()
    context.facts["tokens"] = facts = contract(encoded, handle.tokenizer)
    context.ledger.trained = facts["rows"]
    parts = f" in {facts['examples']} examples" if facts["examples"] > facts["rows"] else ""
    context.reporter.say(
        f"{facts['rows']} rows{parts}, {facts['tokens']} tokens, {facts['supervised_share']:.1%} of them supervised"
    )
    return encoded


def show(data: Dataset, handles: Handles, settings: SftSettings, context: Context) -> list[Shown]:
    """The training rows token by token, exactly as training sees them."""
    handle = handles["model"]
    encoded = tokens.encode(
        data.train,
        data.type,
        handle.tokenizer,
        max_length=longest(settings, handle.max_length),
        overlong=settings.overlong,
        supervise=settings.supervise,
        turns=settings.turns,
        ledger=context.ledger,
    )
    return [shown(row, handle.tokenizer) for row in encoded]
