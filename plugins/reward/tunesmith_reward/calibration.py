"""Calibration of a reward model: how sure it is of each order, and whether it is right as often."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tunesmith import calibration
from tunesmith.calibration import Bin


def reliability(ahead: Sequence[float], bins: int) -> list[Bin]:
    """Pairs by confidence, in bins between 0.5 and 1; see `tunesmith.calibration.reliability`.

    A pair's confidence is the probability that Bradley and Terry's model gives to the order it predicts, 0.5 to 1.

    Args:
        ahead: chosen minus rejected reward of each pair.
    """
    confidences = [1 / (1 + math.exp(-abs(value))) for value in ahead]
    return calibration.reliability(confidences, [rightly(value) for value in ahead], bins, lowest=0.5)


def rightly(ahead: float) -> float:
    """1 where the chosen answer is ahead, 0 where the rejected one is, half for a tie."""
    return 0.5 if ahead == 0 else float(ahead > 0)
