"""Accuracy, precision, recall and F1 with their bootstrap intervals, from what was right and wrong in each row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunesmith import Measure
from tunesmith.stats import RESAMPLES

Array = np.ndarray[Any, Any]

BLOCK = 50  # resamples at once


@dataclass(frozen=True)
class Hits:
    """For each row and label (N, L): how often the label was rightly given, wrongly given, and missed."""

    right: Array
    wrong: Array
    missed: Array

    @classmethod
    def of_places(cls, targets: Sequence[Sequence[int]], given: Sequence[Sequence[int]], labels: int) -> Hits:
        """From the places of labels, one or more a row, in the order of what they belong to."""
        shape = (len(targets), labels)
        right, wrong, missed = (np.zeros(shape, dtype=np.float32) for _ in range(3))
        for row, (wanted, said) in enumerate(zip(targets, given, strict=True)):
            for one, other in zip(wanted, said, strict=True):
                if one == other:
                    right[row, one] += 1
                else:
                    wrong[row, other] += 1
                    missed[row, one] += 1
        return cls(right, wrong, missed)

    @classmethod
    def of_sets(cls, targets: Array, given: Array) -> Hits:
        """From zeros and ones (N, L): which labels a row has, and which it was given."""
        wanted, said = targets.astype(bool), given.astype(bool)
        return cls(*(found.astype(np.float32) for found in (wanted & said, ~wanted & said, wanted & ~said)))

    def summed(self, counts: Array) -> tuple[Array, Array, Array]:
        """Sums over rows (R, L), each row as often as `counts` (R, N) says."""
        return counts @ self.right, counts @ self.wrong, counts @ self.missed


def averages(right: Array, wrong: Array, missed: Array) -> dict[str, Array]:
    """Macro, weighted and micro averages (...) over labels (..., L); a label that nobody has or is given is left out.

    A figure with nothing below its line is 0, as in scikit-learn.
    """
    said, wanted = right + wrong, right + missed
    figures = {
        "precision": _over(right, said),
        "recall": _over(right, wanted),
        "f1": _over(2 * right, said + wanted),
    }
    there = (said + wanted) > 0
    found = {}
    for name, values in figures.items():
        found[f"{name}_macro"] = _over((values * there).sum(-1), there.sum(-1))
        found[f"{name}_weighted"] = _over((values * wanted).sum(-1), wanted.sum(-1))
    found["f1_micro"] = _over(2 * right.sum(-1), (said + wanted).sum(-1))
    return found


def measured(hits: Hits, names: Sequence[str], seed: int) -> dict[str, Measure]:
    """The averages `names`, each with the 95 % percentile bootstrap over rows.

    Args:
        seed: of the resamples; the same rows and seed give the same resamples, whatever was given.
    """
    rows = len(hits.right)
    exact = averages(*hits.summed(np.ones((1, rows), dtype=np.float32)))
    drawn: dict[str, list[Array]] = {name: [] for name in names}
    generator = np.random.default_rng(seed)
    for _ in range(RESAMPLES // BLOCK):
        chosen = generator.integers(rows, size=(BLOCK, rows))
        counts = np.stack([np.bincount(sample, minlength=rows) for sample in chosen]).astype(np.float32)  # (R, N)
        resampled = averages(*hits.summed(counts))
        for name in names:
            drawn[name].append(resampled[name])
    found = {}
    for name in names:
        values = np.sort(np.concatenate(drawn[name]))
        low, high = values[int(0.025 * len(values))], values[int(0.975 * len(values))]
        found[name] = Measure(value=float(exact[name][0]), low=float(low), high=float(high), n=rows, better="higher")
    return found


def _over(above: Array, below: Array) -> Array:
    divide: Callable[..., Array] = np.divide
    return divide(above, below, out=np.zeros(np.shape(above), dtype=np.float64), where=np.asarray(below) > 0)
