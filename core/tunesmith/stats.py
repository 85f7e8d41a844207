"""Uncertainty of what is measured: percentile bootstrap over rows (Efron, Tibshirani 1993, chapter 13)."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

RESAMPLES = 1000


def bootstrap_mean(values: Sequence[float], *, seed: int, resamples: int = RESAMPLES) -> tuple[float, float, float]:
    """The mean of `values` and the ends of its 95 % interval."""
    return bootstrap_ratio(values, [1] * len(values), seed=seed, resamples=resamples)


def bootstrap_ratio(
    numerators: Sequence[float],
    denominators: Sequence[float],
    *,
    seed: int,
    transform: Callable[[float], float] = lambda value: value,
    resamples: int = RESAMPLES,
) -> tuple[float, float, float]:
    """transform(sum of numerators / sum of denominators) and the ends of its 95 % interval.

    Rows are drawn with replacement, numerator and denominator together; `transform` must be monotonic.

    Raises:
        DataError: there are no rows.
    """
    from tunesmith.errors import DataError

    if not numerators or sum(denominators) == 0:
        raise DataError("nothing could be measured: no held-out row is usable", fix="Hold out more rows in [data].")
    pairs = list(zip(numerators, denominators, strict=True))
    value = transform(sum(numerators) / sum(denominators))
    draw = random.Random(seed)
    drawn = []
    for _ in range(resamples):
        sample = draw.choices(pairs, k=len(pairs))
        below = sum(pair[1] for pair in sample)
        if below:
            drawn.append(sum(pair[0] for pair in sample) / below)
    drawn.sort()
    low, high = drawn[int(0.025 * len(drawn))], drawn[min(len(drawn) - 1, int(0.975 * len(drawn)))]
    return (value, *sorted((transform(low), transform(high))))  # type: ignore[return-value]
