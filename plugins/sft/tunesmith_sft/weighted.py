"""Batches of rows whose tokens weigh differently in the loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from tunesmith_transformers.tokens.batching import WEIGHTS
from tunesmith_transformers.tokens.example import IGNORED


class WeightedCollator:
    """Rows of `input_ids`, `labels` and `weights` (null where all weigh 1) to batches."""

    def __init__(self, pad_token_id: int) -> None:
        self.pad_token_id = pad_token_id

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
        """`input_ids`, `attention_mask`, `labels` and `weights`, each (B, T)."""
        longest = max(len(row["input_ids"]) for row in rows)

        def padded(values: Sequence[Any], fill: Any) -> list[Any]:
            return [*values, *[fill] * (longest - len(values))]

        return {
            "input_ids": torch.tensor([padded(row["input_ids"], self.pad_token_id) for row in rows]),
            "attention_mask": torch.tensor([padded([1] * len(row["input_ids"]), 0) for row in rows]),
            "labels": torch.tensor([padded(row["labels"], IGNORED) for row in rows]),
            WEIGHTS: torch.tensor([padded(weights_of(row), 0.0) for row in rows]),
        }


def weights_of(row: Mapping[str, Any]) -> list[float]:
    """The weight of each token of a row: its own, or 1 where a token is supervised."""
    return row[WEIGHTS] or [float(label != IGNORED) for label in row["labels"]]
