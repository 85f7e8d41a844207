"""Examples as a whole: checked before training, summed up for the manifest, and shown."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from tunesmith import DataError
from tunesmith_transformers.tokens.ends import end_ids, end_texts
from tunesmith_transformers.tokens.example import Encoded


def contract(encoded: Sequence[Encoded], tokenizer: Any) -> dict[str, Any]:
    """Check examples as a whole and sum them up for the manifest.

    Returns:
        `rows`, `examples`, `tokens`, `supervised_tokens`, `supervised_share`, `ends_with_eos` (examples whose last
        supervised token is an end token), `digest` (sha256 over all ids and weights) and the `lengths` in tokens.

    Raises:
        DataError: a row supervises nothing, or no row teaches the model to stop.
    """
    digest = hashlib.sha256()
    stops = end_ids(tokenizer)
    ends = supervised = rows = 0
    earlier: str | None = None
    empty: list[str] = []
    lengths: list[int] = []
    for item in encoded:  # once: the rows may come out of a file
        weights = (item.weights,) if item.weights else ()
        digest.update(repr((item.ids, item.supervised, *weights, *sorted(item.columns.items()))).encode())
        lengths.append(len(item.ids))
        rows, earlier = rows + (item.row != earlier), item.row
        supervised += sum(item.supervised)
        last = max((index for index, wanted in enumerate(item.supervised) if wanted), default=None)
        if last is None:
            empty.append(item.name)
        else:
            ends += item.ids[last] in stops
    if empty or not lengths:
        raise DataError(
            f"{len(empty)} rows supervise nothing" if lengths else "no row is left after tokenization",
            details=empty[:5],
            fix="`tunesmith data show RECIPE --mask` shows what is supervised.",
        )
    if not ends:
        named = " or ".join(map(repr, end_texts(tokenizer)))
        raise DataError(
            f"no row ends with the supervised end token {named}: the model would not learn to stop",
            fix="Raise max_length, or use a chat template that ends the assistant's turn with the end token.",
        )
    tokens = sum(lengths)
    return {
        "rows": rows,
        "examples": len(lengths),
        "tokens": tokens,
        "supervised_tokens": supervised,
        "supervised_share": round(supervised / tokens, 4),
        "ends_with_eos": ends,
        "digest": digest.hexdigest(),
        "lengths": histogram(lengths),
    }


def histogram(lengths: Sequence[int], bins: int = 20) -> dict[str, list[int]]:
    """How many rows are how long: `counts` of rows in bins of equal width, and the `edges` of the bins in tokens."""
    low, high = min(lengths), max(lengths) + 1
    width = max(1, -(-(high - low) // bins))
    counts = [0] * -(-(high - low) // width)
    for length in lengths:
        counts[(length - low) // width] += 1
    return {"edges": [low + width * index for index in range(len(counts) + 1)], "counts": counts}


def marked(encoded: Encoded, tokenizer: Any) -> list[tuple[str, bool]]:
    """Each token's text and whether it is supervised, for display."""
    return [(tokenizer.decode([token]), wanted) for token, wanted in zip(encoded.ids, encoded.supervised, strict=True)]
