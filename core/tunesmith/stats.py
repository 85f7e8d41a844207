"""Uncertainty of what is measured: percentile bootstrap over rows (Efron, Tibshirani 1993, chapter 13), and for shares
of few rows the score interval (Wilson 1927)."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Hashable, Sequence

RESAMPLES = 1000
#: Standard deviations on either side of the middle of a normal distribution that hold 95 % of it.
Z = 1.959963984540054


def bootstrap_mean(values: Sequence[float], *, seed: int, resamples: int = RESAMPLES) -> tuple[float, float, float]:
    """The mean of `values` and the ends of its 95 % interval."""
    return bootstrap_ratio(values, [1] * len(values), seed=seed, resamples=resamples)


def bootstrap_grouped(
    values: Sequence[float], groups: Sequence[Hashable], *, seed: int, resamples: int = RESAMPLES
) -> tuple[float, float, float]:
    """The mean of `values` and the ends of its 95 % interval, where values of one group are drawn together.

    Values of one group say less than as many of different ones: the pairs of a ranking share its prompt and answers.
    """
    sums: dict[Hashable, list[float]] = {}
    for value, group in zip(values, groups, strict=True):
        sums.setdefault(group, []).append(value)
    totals, counts = [sum(found) for found in sums.values()], [len(found) for found in sums.values()]
    return bootstrap_ratio(totals, counts, seed=seed, resamples=resamples)


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


def wilson(share: float, n: int) -> tuple[float, float]:
    """The ends of the 95 % score interval of a share of `n` independent rows.

    A row may count in part, as a tie counts half: no values between 0 and 1 vary more than zeros and ones of the same
    mean, so the interval is then too wide rather than too narrow.

    Args:
        share: between 0 and 1.
        n: one row or more.
    """
    middle = share + Z * Z / (2 * n)
    reach = Z * math.sqrt(share * (1 - share) / n + Z * Z / (4 * n * n))
    below = 1 + Z * Z / n
    return max(0.0, (middle - reach) / below), min(1.0, (middle + reach) / below)
