"""Calibration: whether the probability that a reward model gives to its order is how often the order is right."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Bin:
    """Pairs of like confidence: their number, mean confidence, and the share that is ordered rightly."""

    pairs: int
    confidence: float
    accuracy: float


def reliability(ahead: Sequence[float], bins: int) -> list[Bin]:
    """Pairs by confidence, bins without a pair left out (Guo et al. 2017, arXiv 1706.04599, section 2).

    A pair's confidence is the probability that Bradley and Terry's model gives to the order it predicts, 0.5 to 1.

    Args:
        ahead: chosen minus rejected reward of each pair.
        bins: number of bins of equal width between 0.5 and 1.
    """
    members: list[list[float]] = [[] for _ in range(bins)]
    for value in ahead:
        place = min(bins - 1, int((_confidence(value) - 0.5) * 2 * bins))
        members[place].append(value)
    return [
        Bin(
            pairs=len(values),
            confidence=sum(map(_confidence, values)) / len(values),
            accuracy=sum(map(rightly, values)) / len(values),
        )
        for values in members
        if values
    ]


def expected_error(bins: Sequence[Bin]) -> float:
    """The expected calibration error, 0 to 1: mean distance of accuracy from confidence, weighed by pairs."""
    total = sum(item.pairs for item in bins)
    return sum(item.pairs * abs(item.accuracy - item.confidence) for item in bins) / total


def rightly(ahead: float) -> float:
    """1 where the chosen answer is ahead, 0 where the rejected one is, half for a tie."""
    return 0.5 if ahead == 0 else float(ahead > 0)


def _confidence(ahead: float) -> float:
    return 1 / (1 + math.exp(-abs(ahead)))
