"""Whether a measure moved: the difference over paired rows, its interval, and a test of it.

Both models answer the same rows, so each row is compared with itself. The interval is the percentile bootstrap over
rows (Efron, Tibshirani 1993, chapter 13); the test turns the sign of each row's difference at random, which is what
may happen when neither model is better (Fisher 1935, section 21; Dror et al. 2018, ACL, section 3). For right and
wrong answers it is McNemar's exact test.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from tunesmith.stats import bootstrap_grouped

#: Probability under which a difference is called one.
LEVEL = 0.05
DRAWS = 9_999
#: Signs drawn at the most; with more rows there are fewer draws.
WORK = 10_000_000
#: Up to so many rows that differ, every choice of signs is tried.
EXACT = 12

#: Smallest change that counts where a measure does not say its own, as a share of its size: float32 holds 7 digits, and
#: sums over thousands of tokens lose one or two of them.
SMALLEST = 1e-5

Outcome = Literal["better", "worse", "no difference shown", "no change", "not tested"]


@dataclass(frozen=True, kw_only=True)
class Moved:
    """A measure of two models on the same rows.

    Args:
        name: the measure.
        before, after: its values.
        difference: after - before, in the measure's unit.
        low, high: 95 % interval of the mean difference a row; None where the rows do not give the measure.
        of_logs: the interval is of the mean row (nats) whose exponential the measure is, and so are low and high.
        p: probability of a difference at least as large when neither is better, two-sided; None where not tested.
        n: rows that were compared.
        outcome: what may be said; `better` or `worse` only where p is below 0.05, `no change` where the difference is
            below the smallest that counts.
    """

    name: str
    before: float
    after: float
    difference: float
    low: float | None = None
    high: float | None = None
    of_logs: bool = False
    p: float | None = None
    n: int = 0
    outcome: Outcome = "not tested"

    def describe(self) -> dict[str, Any]:
        """The same as JSON-ready data."""
        return asdict(self)


def compare_measures(
    before: Mapping[str, Mapping[str, Any]], after: Mapping[str, Mapping[str, Any]], seed: int
) -> list[Moved]:
    """Each measure that both have, in the order of `after`. Measures are plain data, as in `results.json`."""
    return [compare_measure(name, before[name], found, seed) for name, found in after.items() if name in before]


def compare_measure(name: str, before: Mapping[str, Any], after: Mapping[str, Any], seed: int) -> Moved:
    """One measure of two models.

    It is tested where both hold a value for each row and the measure is their weighted mean or its exponential. Rows of
    one group, such as pairs of answers to one prompt, turn their signs together. A change within rounding is none,
    however sure the test would be of it: thousands of rows may all move by a last digit the same way.
    """
    first, last = _number(before["value"]), _number(after["value"])
    plain = Moved(name=name, before=first, after=last, difference=last - first, n=int(after.get("n") or 0))
    rows = before.get("per_row") or (), after.get("per_row") or ()
    weights = before.get("weights") or [1.0] * len(rows[0])
    if len(rows[0]) < 2 or len(rows[0]) != len(rows[1]) or list(weights) != list(after.get("weights") or weights):
        return plain
    if not all(isinstance(value, (int, float)) and math.isfinite(value) for value in (*rows[0], *rows[1], first, last)):
        return plain
    of_logs = all(gives(own, weights, value, math.exp) for own, value in zip(rows, (first, last), strict=True))
    if not of_logs and not all(
        gives(own, weights, value, float) for own, value in zip(rows, (first, last), strict=True)
    ):
        return plain
    if unmoved(before, after):
        return replace(plain, n=len(rows[0]), outcome="no change")
    scale = len(weights) / sum(weights)
    moved = [scale * weight * (b - a) for weight, a, b in zip(weights, *rows, strict=True)]
    groups = after.get("groups") or range(len(moved))
    _, low, high = bootstrap_grouped(moved, list(groups), seed=seed)
    together: dict[Any, float] = {}
    for group, value in zip(groups, moved, strict=True):
        together[group] = together.get(group, 0.0) + value
    p = sign_flip(list(together.values()), seed)
    outcome: Outcome = "no difference shown"
    if p < LEVEL:
        outcome = "better" if (last > first) == (after.get("better") == "higher") else "worse"
    return Moved(
        name=name,
        before=first,
        after=last,
        difference=last - first,
        low=low,
        high=high,
        of_logs=of_logs,
        p=p,
        n=len(moved),
        outcome=outcome,
    )


def unmoved(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether a measure changed by less than the smallest share of its size that counts.

    Its size is the larger of both values. Where they are means of rows of either sign, such as margins, it is the mean
    size of a row if that is larger: such a mean may be near 0, and its rounding is that of its rows.
    """
    first, last = _number(before["value"]), _number(after["value"])
    size = max(abs(first), abs(last))
    for rows, value in ((before.get("per_row") or (), first), (after.get("per_row") or (), last)):
        if rows and all(isinstance(row, (int, float)) for row in rows) and min(rows) < 0 < max(rows):
            size = max(size, sum(map(abs, rows)) / len(rows)) if gives(rows, [1.0] * len(rows), value, float) else size
    return abs(last - first) <= float(after.get("smallest", SMALLEST)) * size


def sign_flip(differences: Sequence[float], seed: int) -> float:
    """Two-sided p of the paired randomization test on the sum of `differences`.

    Exact where the differences that are not 0 are few or all of one size, else from up to 9,999 random choices of
    signs, the observed one counted in (Phipson, Smyth 2010, arXiv 1603.05766, equation 2).
    """
    sizes = [abs(value) for value in differences if value]
    if not sizes:
        return 1.0
    observed = abs(math.fsum(differences))
    reached = observed * (1 - 1e-9)  # sums of the same numbers in another order differ in their last bits
    if math.isclose(min(sizes), max(sizes), rel_tol=1e-12):
        return _binomial(len(sizes), round(observed / sizes[0]))
    if len(sizes) <= EXACT:
        sums = [0.0]
        for size in sizes:
            sums = [total + sign * size for total in sums for sign in (-1.0, 1.0)]
        return sum(abs(total) >= reached for total in sums) / len(sums)
    draw = random.Random(seed)
    count = max(999, min(DRAWS, WORK // len(sizes)))
    total = math.fsum(sizes)
    hits = 0
    for _ in range(count):
        signs = f"{draw.getrandbits(len(sizes)):0{len(sizes)}b}"
        turned = sum(size for size, sign in zip(sizes, signs, strict=True) if sign == "1")
        hits += abs(total - 2 * turned) >= reached
    return (hits + 1) / (count + 1)


def gives(rows: Sequence[float], weights: Sequence[float], value: float, transform: Callable[[float], float]) -> bool:
    """Whether `transform` of the weighted mean of `rows` is the measure `value`."""
    mean = sum(weight * row for weight, row in zip(weights, rows, strict=True)) / sum(weights)
    return abs(mean) < 700 and math.isclose(transform(mean), value, rel_tol=1e-6, abs_tol=1e-12)


def _binomial(count: int, ahead: int) -> float:
    """P(|heads - tails| >= ahead) of `count` fair coins."""
    least = (count + ahead) // 2
    tail = sum(math.comb(count, heads) for heads in range(least, count + 1))
    return min(1.0, 2 * tail / 2**count) if ahead else 1.0


def _number(value: Any) -> float:
    return float(value) if value is not None else math.nan
