"""The rows that a merged model is compared with the tuned one on, whatever the run was trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from tunesmith import Context, DataError, ModelHandle, RecipeError, Records
from tunesmith_export.settings import MergeSettings
from tunesmith_transformers.tokens.encoding import Encoded, Unusable, column_values, encode, prompt_ids
from tunesmith_transformers.tokens.pairs import encode_pairs

#: Rows of made-up tokens, and the length of each.
MADE_UP, LENGTH = 8, 24


@dataclass(frozen=True)
class Compared:
    """Rows to compare on, and what they are: `held-out`, `training`, or `made-up`."""

    rows: list[Encoded]
    origin: str


def compared_rows(handle: ModelHandle, settings: MergeSettings, context: Context, *, needed: bool = False) -> Compared:
    """Held-out rows of the run; where none can be used training rows, and without these rows of random tokens.

    A language model is compared at the supervised tokens, at most `settings.tokens` in all, evenly spread.

    Args:
        needed: that the figures are those of the data: no made-up rows.

    Raises:
        DataError: no row of the data can be compared on, and the data are needed.
    """
    try:
        data = context.rows()
        parts = {"held-out": data.validation, "training": data.train}
        for origin, records in parts.items():
            found = _encoded(records.spread(settings.rows), data.type, handle)
            rows = _thinned(found, settings.tokens) if handle.head == "causal-lm" else found[: settings.rows]
            if rows:
                return Compared(rows, origin)
        raise DataError(f"none of {sum(map(len, parts.values()))} rows can be compared on")
    except (DataError, RecipeError):
        if needed:
            raise
    return Compared(_made_up(handle), "made-up")


def _encoded(records: Records, record_type: str, handle: ModelHandle) -> list[Encoded]:
    """Rows of any record type as tokens; what cannot be encoded is left out."""
    tokenizer, limit = handle.tokenizer, handle.max_length
    if record_type == "preference":
        pairs = encode_pairs(records, tokenizer, max_length=limit, columns=handle.columns)
        return [side for pair in pairs for side in (pair.chosen, pair.rejected)]
    if record_type in ("text", "prompt-completion", "messages", "unpaired-preference"):
        kind = "prompt-completion" if record_type == "unpaired-preference" else record_type
        return encode(records, kind, tokenizer, max_length=limit, columns=handle.columns)
    found = []
    for name, row in records:
        try:
            if record_type == "prompt":
                ids = prompt_ids(row, record_type, tokenizer)[:limit]
            else:
                text = " ".join(row["tokens"]) if record_type == "tokens-tags" else row["text"]
                cut: dict[str, Any] = {"truncation": True, "max_length": limit} if limit else {}
                ids = list(tokenizer(text, **cut)["input_ids"])
            values = column_values(row, handle.columns)
        except Unusable:
            continue
        if ids:
            found.append(_example(name, ids, values))
    return found


def _example(name: str, ids: Sequence[int], columns: dict[str, int]) -> Encoded:
    """Tokens all of which but the first are compared at."""
    return Encoded(name, tuple(ids), (False, *[True] * (len(ids) - 1)), columns)


def _thinned(rows: list[Encoded], count: int) -> list[Encoded]:
    """The rows with at most `count` supervised tokens, evenly spread over all of them."""
    places = [(number, t) for number, row in enumerate(rows) for t, wanted in enumerate(row.supervised) if wanted]
    kept = {places[index * len(places) // count] for index in range(count)} if count < len(places) else set(places)
    thinned = [
        replace(row, supervised=tuple((number, t) in kept for t in range(len(row.ids))), weights=())
        for number, row in enumerate(rows)
    ]
    return [row for row in thinned if any(row.supervised)]


def _made_up(handle: ModelHandle) -> list[Encoded]:
    length = min(LENGTH, handle.max_length or LENGTH)
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(len(handle.tokenizer), (MADE_UP, length), generator=generator).tolist()
    columns = {name: column.examples[0] for name, column in handle.columns.items()}
    return [_example(f"made-up:{number}", row, columns) for number, row in enumerate(ids, 1)]
