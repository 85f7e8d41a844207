"""Packing: several short rows in one sequence, so that little is computed on padding.

The positions of each row count from 0, and no attention is given across rows: Transformers makes its mask from the
positions (every implementation of attention that it has), so the loss of a row is what it is alone. That this model
does so is tried before training.
"""

from __future__ import annotations

import bisect
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset as ArrowDataset

from tunesmith import Adapted, RecipeError
from tunesmith_transformers.tokens.batching import WEIGHTS
from tunesmith_transformers.tokens.example import IGNORED, Encoded

TRIED = 48  # tokens of a row on which the model is tried


def packs(lengths: Sequence[int], size: int) -> list[list[int]]:
    """Which rows share a sequence: best-fit decreasing, the longest rows first, each where the least room is left.

    Args:
        lengths: tokens of each row, each at most `size`.
        size: tokens of a sequence.
    """
    found: list[list[int]] = []
    room: list[tuple[int, int]] = []  # tokens left, number of the pack; the least first
    for row in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        place = bisect.bisect_left(room, (lengths[row], -1))
        left, number = room.pop(place) if place < len(room) else (size, len(found))
        if number == len(found):
            found.append([])
        found[number].append(row)
        if left > lengths[row]:
            bisect.insort(room, (left - lengths[row], number))
    return found


def joined(encoded: Sequence[Encoded], chosen: Sequence[Sequence[int]], folder: Path) -> ArrowDataset:
    """The packs as a data set with `input_ids`, `labels`, `position_ids`, and `weights` where a row has any, in a file
    that is gone with it."""
    import pyarrow as pa

    kind = pa.list_(pa.int32())
    weighted = any(row.weights for row in encoded)
    more = [(WEIGHTS, pa.list_(pa.float64()))] if weighted else []
    schema = pa.schema([("input_ids", kind), ("labels", kind), ("position_ids", kind), *more])
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="packs-", dir=folder) as place:
        path = f"{place}/packs.arrow"
        with pa.OSFile(path, "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
            for pack in _joined(encoded, chosen, weighted):
                writer.write_batch(pa.record_batch({name: [ids] for name, ids in pack.items()}, schema=schema))
        return ArrowDataset.from_file(path)


def _joined(
    encoded: Sequence[Encoded], chosen: Sequence[Sequence[int]], weighted: bool
) -> Iterator[dict[str, list[Any]]]:
    for pack in chosen:
        rows = [encoded[row] for row in pack]
        yield {
            "input_ids": [token for row in rows for token in row.ids],
            "labels": [label for row in rows for label in row.labels],
            "position_ids": [position for row in rows for position in range(len(row.ids))],
            **({WEIGHTS: [weight for row in rows for weight in row.loss_weights]} if weighted else {}),
        }


class PackCollator:
    """Packs to batches; what pads them stands at position 0 and sees nothing but itself."""

    def __init__(self, pad_token_id: int) -> None:
        self.fill: dict[str, Any] = {"input_ids": pad_token_id, "labels": IGNORED, "position_ids": 0, WEIGHTS: 0.0}

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """`input_ids`, `labels`, `position_ids`, and `weights` where the packs have them, each (B, T)."""
        longest = max(len(row["input_ids"]) for row in rows)
        return {
            name: torch.tensor([[*row[name], *[fill] * (longest - len(row[name]))] for row in rows])
            for name, fill in self.fill.items()
            if name in rows[0]
        }


def check_apart(adapted: Adapted, rows: Sequence[Encoded]) -> None:
    """Try the model on two rows in one sequence: the second one must come out as it does alone.

    Raises:
        RecipeError: it does not; this model, or this adapter, cannot be trained on packs.
    """
    if adapted.handle.columns:
        raise RecipeError(
            f"packing does not fit: the model takes {', '.join(adapted.handle.columns)} for every row by itself",
            fix="Leave `packing` out of [trainer].",
        )
    one, two = ([*row.ids[:TRIED]] for row in (rows[0], rows[-1]))
    model = adapted.model
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            alone = _logits(model, two, range(len(two)), device)  # (T, V)
            positions = [*range(len(one)), *range(len(two))]
            packed = _logits(model, [*one, *two], positions, device)[-len(two) :]  # (T, V)
    finally:
        model.train(was_training)
    bound = (1e-3 if alone.dtype == torch.float32 else 5e-2) * alone.abs().max().clamp(min=1.0)
    difference = (packed.float() - alone.float()).abs().max() if packed.shape == alone.shape else torch.inf
    if difference > bound:
        raise RecipeError(
            f"packing does not fit: rows of a sequence see each other in this model (logits: {difference:.2g} apart)",
            fix="Leave `packing` out of [trainer], or choose another [adapter] or `attention` in [model].",
        )


def _logits(model: Any, ids: Sequence[int], positions: Sequence[int], device: Any) -> torch.Tensor:
    inputs = {"input_ids": torch.tensor([list(ids)], device=device)}
    return model(**inputs, position_ids=torch.tensor([list(positions)], device=device), use_cache=False).logits[0]
