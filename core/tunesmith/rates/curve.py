"""What the losses of a range test say about the learning rate.

The test is Smith's (2017, 1506.01186, section 3.3): the rate rises from step to step, and the losses show from where on
the model learns and from where on it no longer does. The rise is exponential, and the rate of the steepest descent and
a tenth of the rate at the lowest loss are the two to choose from, as in fastai (Howard, Gugger 2020, 2002.04688).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import fmean

BETA = 0.9  # of the running mean that ends a test
TIMES = 4.0  # a running mean so many times its lowest is a divergence
WINDOWS = 8  # half a window is this part of the steps
HALF = 3  # steps on either side of a window's middle, at least
STEPS = 20  # with fewer a fall can hardly be told from noise
ERRORS = 3.0  # standard errors by which the loss must fall


def rising(low: float, high: float, steps: int) -> list[float]:
    """The rates of the steps: each the same factor above the one before, from `low` to `high`."""
    return [low * (high / low) ** (step / (steps - 1)) for step in range(steps)]


class Divergence:
    """Watches for the end of a test: the running mean of the losses, corrected for its start as Adam's moments are."""

    def __init__(self) -> None:
        self._sum = 0.0
        self._count = 0
        self._first = self._lowest = math.inf

    def after(self, loss: float) -> bool:
        """Whether the losses diverge with this one: not finite, or in the mean `TIMES` the lowest and above the first.

        The second condition is for losses that end near 0, where four times nothing is nothing.
        """
        if not math.isfinite(loss):
            return True
        self._count += 1
        self._sum = BETA * self._sum + (1 - BETA) * loss
        mean = self._sum / (1 - BETA**self._count)
        if self._count == 1:
            self._first = mean
        self._lowest = min(self._lowest, mean)
        return mean > max(TIMES * self._lowest, self._first) and self._lowest > 0


@dataclass(frozen=True)
class Line:
    """A straight line through the losses of some neighbouring steps, by least squares.

    Args:
        middle: the step that it is about, from 0.
        loss: at the middle.
        slope: by which the loss changes when the rate grows tenfold.
    """

    middle: int
    loss: float
    slope: float


def smoothed(rates: Sequence[float], losses: Sequence[float], half: int) -> list[Line]:
    """For each step the line through it and up to `half` steps on either side (Savitzky, Golay 1964, degree 1).

    It does not lag behind as a running mean does, whose steepest descent comes at too high a rate.
    """
    return [_line(rates, losses, step, half) for step in range(len(losses))]


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a test says.

    Args:
        course: the smoothed loss at each step.
        rate: the one to choose, the lower end of a range that ends at `high`; None where none can be told.
        reason: why no rate can be told, or empty.
        steepest: the rate at which the loss falls fastest.
        lowest: the rate at which the smoothed loss is lowest, and `lowest_loss` what it is there.
        fall: from the first window's mean to the lowest one's, and `error` the standard error of such a difference.
        rose: the rate from which on the smoothed loss is above where it began.
    """

    course: tuple[float, ...]
    rate: float | None = None
    high: float | None = None
    reason: str = ""
    steepest: float | None = None
    lowest: float | None = None
    lowest_loss: float | None = None
    fall: float | None = None
    error: float | None = None
    rose: float | None = None


def read(rates: Sequence[float], losses: Sequence[float], steps: int, *, diverged: bool) -> Reading:
    """Choose a rate, or say why none can be chosen.

    Of the rate of the steepest descent of the smoothed loss and a tenth of the rate at its lowest, the less is chosen,
    and the other one ends the range. A loss that is as far above the start as the lowest is below it counts no higher,
    so that a divergence does not reach into windows before it.

    Args:
        rates, losses: of the steps that were taken, all finite.
        steps: how many were to be taken; windows are an eighth of them on either side.
        diverged: whether the last one was a divergence.
    """
    half = half_window(steps)
    if len(losses) < 2 * half + 2:
        return Reading(
            course=tuple(line.loss for line in smoothed(rates, losses, half)),
            reason=f"the loss diverged after {len(losses)} steps, before its course could be told: begin at a lower "
            "rate, or take more steps",
        )
    lines = smoothed(rates, losses, half)
    whole = lines[half : len(lines) - half]
    start, lowest = whole[0].loss, min(whole, key=lambda line: line.loss)
    fall, error = start - lowest.loss, _error(losses[: lowest.middle + half + 1], 2 * half + 1)
    if fall > ERRORS * error:  # else there is nothing that a divergence could hide
        lines = smoothed(rates, [min(loss, start + fall) for loss in losses], half)
        whole = lines[half : len(lines) - half]
        lowest = min(whole, key=lambda line: line.loss)
    seen = Reading(
        course=tuple(line.loss for line in lines),
        lowest=rates[lowest.middle],
        lowest_loss=lowest.loss,
        fall=fall,
        error=error,
        rose=next((rates[line.middle] for line in lines[lowest.middle :] if line.loss > start), None),
    )
    if fall <= ERRORS * error:
        return replace(seen, reason=_flat(fall, error, diverged or seen.rose is not None))
    if lowest is whole[-1] and not diverged:
        return replace(seen, reason="the loss still falls at the end of the range: let it end at a higher rate")
    steepest = min((line for line in whole if line.middle <= lowest.middle), key=lambda line: line.slope)
    if steepest is whole[0]:
        return replace(seen, reason="the loss falls fastest at the very start of the range: begin at a lower rate")
    rate, high = sorted((rates[steepest.middle], rates[lowest.middle] / 10))
    return replace(seen, rate=rounded(rate), high=rounded(high), steepest=rates[steepest.middle])


def half_window(steps: int) -> int:
    """Steps on either side of a window's middle."""
    return max(HALF, steps // WINDOWS)


def rounded(rate: float) -> float:
    """A rate as one writes it: two digits."""
    return float(f"{rate:.1e}")


# --- helpers --------------------------------------------------------------------------------------
def _line(rates: Sequence[float], losses: Sequence[float], step: int, half: int) -> Line:
    near = range(max(0, step - half), min(len(losses), step + half + 1))
    places = [math.log10(rates[index]) for index in near]
    middle, mean = fmean(places), fmean(losses[index] for index in near)
    spread = sum((place - middle) ** 2 for place in places)
    together = sum((place - middle) * (losses[index] - mean) for place, index in zip(places, near, strict=True))
    slope = together / spread if spread else 0.0
    return Line(step, mean + slope * (math.log10(rates[step]) - middle), slope)


def _error(losses: Sequence[float], window: int) -> float:
    """The standard error of the difference of two windows' means.

    How much single losses vary is taken from neighbours (the mean square successive difference, von Neumann 1941), so
    that a trend counts little.
    """
    steps = [after - before for before, after in pairwise(losses)]
    return math.sqrt(fmean(step**2 for step in steps) / 2 * 2 / window)


def _flat(fall: float, error: float, rises: bool) -> str:
    told = "the loss does not fall"
    if fall:
        told = f"the loss falls by {fall:.2g}, and differences up to {ERRORS * error:.2g} are noise between batches"
    if rises:
        return f"{told}, before it rises: larger batches, or more steps, tell more"
    return f"{told}, and never rises: nothing is learned at these rates, or larger batches or more steps must tell it"
