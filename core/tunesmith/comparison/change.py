"""How far a measure moved against the base, in per cent, with an interval over paired rows."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tunesmith.paired import gives
from tunesmith.stats import bootstrap_ratio

Change = dict[str, float | None]


def change(base: Mapping[str, Any], tuned: Mapping[str, Any], seed: int) -> Change | None:
    """100 (tuned / base - 1) of two measures as plain data: `value`, `low`, `high`.

    The interval is the 95 % percentile bootstrap over the rows, each drawn with both of its values. It is left out
    where the rows do not give the measure: its value must be the weighted mean of `per_row`, or the exponential of it
    (perplexity, whose rows are in nats). None when the base's value is zero or not finite.
    """
    first, last = float(base["value"]), float(tuned["value"])
    if not first or not math.isfinite(first) or not math.isfinite(last):
        return None
    value = 100 * (last / first - 1)
    nothing: Change = {"value": value, "low": None, "high": None}
    rows, weights = (base.get("per_row") or (), tuned.get("per_row") or ()), base.get("weights") or ()
    if len(rows[0]) < 2 or len(rows[0]) != len(rows[1]) or list(weights) != list(tuned.get("weights") or ()):
        return nothing
    weights = weights or [1.0] * len(rows[0])
    if all(gives(own, weights, measure, math.exp) for own, measure in zip(rows, (first, last), strict=True)):
        moved = [weight * (b - a) for weight, a, b in zip(weights, *rows, strict=True)]
        _, low, high = bootstrap_ratio(moved, weights, seed=seed, transform=lambda log: 100 * math.expm1(log))
    elif all(gives(own, weights, measure, float) for own, measure in zip(rows, (first, last), strict=True)):
        above, below = ([w * v for w, v in zip(weights, own, strict=True)] for own in (rows[1], rows[0]))
        _, low, high = bootstrap_ratio(above, below, seed=seed, transform=lambda ratio: 100 * (ratio - 1))
    else:
        return nothing
    return {"value": value, "low": low, "high": high}
