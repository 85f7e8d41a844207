"""Axes of the plot: from a figure to a place, with ticks at round values."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tunesmith.chart import ticks_of
from tunesmith.comparison.figures import counted

#: Quartile distances from the quartiles beyond which a figure would press all others together (Tukey 1977: far out).
FAR_OUT = 3.0
#: Units between the middles of two tick labels, at least.
APART = 36


@dataclass(frozen=True)
class Axis:
    """A part of a line from `left` to `right` that shows figures from `low` to `high`."""

    left: float
    right: float
    low: float
    high: float
    logarithmic: bool = False

    def holds(self, value: float) -> bool:
        """Whether a figure lies on the axis."""
        return self.low <= value <= self.high

    def place(self, value: float) -> float:
        """Where a figure is; the nearer end for one that is not on the axis."""
        low, high, value = (self._scaled(v) for v in (self.low, self.high, min(max(value, self.low), self.high)))
        return self.left + (value - low) / (high - low) * (self.right - self.left)

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Places and labels, as many as have room."""
        if self.logarithmic:
            powers = range(round(math.log10(self.low)), round(math.log10(self.high)) + 1)
            found = [(10.0**power, counted(10.0**power)) for power in powers]
        else:
            found = [(tick, f"{tick:g}") for tick in ticks_of(self.low, self.high) if self.holds(tick)]
        room = max(1, int((self.right - self.left) // APART))
        step = math.ceil((len(found) - 1) / room) or 1
        return [(round(self.place(value), 1), label) for value, label in found[::step]]

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self.logarithmic else value


def linear_axis(figures: Mapping[str, Mapping[str, Any]], base: str, left: float, width: float) -> Axis | None:
    """An axis for figures and their intervals; those far out of the rest are left off it, but never the base's.

    None without a figure.
    """
    values = [figure["value"] for figure in figures.values() if math.isfinite(figure["value"])]
    if not values:
        return None
    low, high = -math.inf, math.inf
    if len(values) > 3:
        first, _, third = statistics.quantiles(values, n=4, method="inclusive")
        reach = FAR_OUT * (third - first)
        if reach:
            low, high = first - reach, third + reach
    kept = [figure for name, figure in figures.items() if name == base or low <= figure["value"] <= high]
    told = [figure.get(key) for figure in kept for key in ("value", "low", "high")]
    ends = [float(end) for end in told if end is not None and math.isfinite(end)]
    ticks = ticks_of(min(ends), max(ends))
    return Axis(left, left + width, ticks[0], ticks[-1])


def log_axis(figures: Mapping[str, Mapping[str, Any]], left: float, width: float) -> Axis | None:
    """An axis over whole powers of ten; None without a figure."""
    values = [figure["value"] for figure in figures.values()]
    if not values:
        return None
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return Axis(left, left + width, 10.0**low, 10.0 ** max(high, low + 1), logarithmic=True)
