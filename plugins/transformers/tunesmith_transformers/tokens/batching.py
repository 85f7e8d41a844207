"""Rows to batches: padding, grouping by length, and an order that a resumed run finds again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import Dataset, Sampler

from tunesmith_transformers.tokens.example import IGNORED, Encoded

WEIGHTS = "weights"  # of the tokens of a batch, (B, T): how much each prediction counts in the loss


def collate(rows: Sequence[Encoded], pad_token_id: int, side: str = "right") -> dict[str, torch.Tensor]:
    """Pad encoded rows to the longest.

    Returns:
        `input_ids`, `attention_mask`, `labels`, each (B, T); labels are -100 at padding and prompt. `weights` (B, T)
        where the rows have any. And the rows' columns, each (B,).
    """
    longest = max(len(row.ids) for row in rows)

    def padded(values: Sequence[Any], fill: Any) -> list[Any]:
        padding = [fill] * (longest - len(values))
        return [*values, *padding] if side == "right" else [*padding, *values]

    weights = None
    if any(row.weights for row in rows):
        weights = torch.tensor([padded(row.loss_weights, 0.0) for row in rows])  # (B, T)
    return {
        "input_ids": torch.tensor([padded(row.ids, pad_token_id) for row in rows]),  # (B, T)
        "attention_mask": torch.tensor([padded([1] * len(row.ids), 0) for row in rows]),  # (B, T)
        "labels": torch.tensor([padded(row.labels, IGNORED) for row in rows]),  # (B, T)
        **({WEIGHTS: weights} if weights is not None else {}),
        **column_tensors([row.columns for row in rows]),
    }


def column_tensors(values: Sequence[Mapping[str, int]]) -> dict[str, torch.Tensor]:
    """The columns of some rows, each (B,)."""
    names = values[0] if values else {}
    return {name: torch.tensor([row[name] for row in values]) for name in names}


class ColumnCollator:
    """Another collator, and the columns that it would not carry along."""

    def __init__(self, collator: Callable[..., Any], names: Sequence[str]) -> None:
        self.collator = collator
        self.names = tuple(names)

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The other collator's batch with the columns, each (B,)."""
        rest = [{name: value for name, value in row.items() if name not in self.names} for row in rows]
        own = [{name: row[name] for name in self.names} for row in rows]
        return {**self.collator(rest), **column_tensors(own)}


def by_length(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """Indices in batches of like length, longest first, so that a lack of memory shows at once."""
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


Item = TypeVar("Item")


class Rows(Dataset[Item], Generic[Item]):
    """Training rows that the trainer's own collator takes as they are, the columns that a model asks for included.

    Args:
        items: one a row.
        lengths: tokens of each row, by which rows are grouped.
    """

    def __init__(self, items: Sequence[Item], lengths: Sequence[int]) -> None:
        assert len(items) == len(lengths)
        self.items = list(items)
        self.lengths = list(lengths)

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Item:
        return self.items[index]


class EpochSampler(Sampler[int]):
    """A shuffled order that depends on seed and epoch alone, so that a resumed run meets the same batches.

    With `grouped`, rows are shuffled, cut into pools of fifty batches, and sorted by length within each
    pool; the batches then come in shuffled order, the one with the longest row first.

    Args:
        lengths: tokens of each row.
        batch_size: rows of one optimizer step on this device.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int, grouped: bool) -> None:
        self.lengths = list(lengths)
        self.batch_size = batch_size
        self.seed = seed
        self.grouped = grouped
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator()
        generator.manual_seed(self.seed * 1_000_003 + self.epoch)
        order = torch.randperm(len(self.lengths), generator=generator).tolist()
        if self.grouped:
            pool = self.batch_size * 50
            pools = [order[start : start + pool] for start in range(0, len(order), pool)]
            order = [i for part in pools for i in sorted(part, key=lambda index: -self.lengths[index])]
            batches = [order[start : start + self.batch_size] for start in range(0, len(order), self.batch_size)]
            short = [batches.pop()] if len(batches[-1]) < self.batch_size else []
            shuffled = [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]
            longest = max(range(len(shuffled)), key=lambda i: self.lengths[shuffled[i][0]], default=0)
            if shuffled:
                shuffled.insert(0, shuffled.pop(longest))
            order = [index for batch in (*shuffled, *short) for index in batch]
        return iter(order)
