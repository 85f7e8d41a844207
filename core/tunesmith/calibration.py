"""Calibration: whether the probability that a model gives to what it says is how often it is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Bin:
    """Answers of like confidence: their number, mean confidence, and the share that is right."""

    count: int
    confidence: float
    accuracy: float


def reliability(confidences: Sequence[float], right: Sequence[float], bins: int, *, lowest: float = 0.0) -> list[Bin]:
    """Answers by confidence, bins without one left out (Guo et al. 2017, arXiv 1706.04599, section 2).

    Args:
        confidences: the probability that the model gives to each of its answers, `lowest` to 1.
        right: 1 where the answer is right, 0 where it is wrong, between for a tie.
        bins: number of bins of equal width between `lowest` and 1.
    """
    members: list[list[tuple[float, float]]] = [[] for _ in range(bins)]
    for confidence, outcome in zip(confidences, right, strict=True):
        place = int((confidence - lowest) / (1 - lowest) * bins)
        members[max(0, min(bins - 1, place))].append((confidence, outcome))
    return [
        Bin(
            count=len(pairs),
            confidence=sum(confidence for confidence, _ in pairs) / len(pairs),
            accuracy=sum(outcome for _, outcome in pairs) / len(pairs),
        )
        for pairs in members
        if pairs
    ]


def expected_error(bins: Sequence[Bin]) -> float:
    """The expected calibration error, 0 to 1: mean distance of accuracy from confidence, weighed by answers."""
    total = sum(item.count for item in bins)
    return sum(item.count * abs(item.accuracy - item.confidence) for item in bins) / total
