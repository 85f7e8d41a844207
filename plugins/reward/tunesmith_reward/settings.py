"""Settings of the reward trainer and its evaluator. Light: imported by listing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from tunesmith import Ge, Gt, Settings
from tunesmith_transformers.training.settings import TrainingSettings


@dataclass(frozen=True, kw_only=True)
class RewardSettings(TrainingSettings):
    """Reward modelling on pairs."""

    learning_rate: Annotated[float, Ge(0)] = 1e-4
    """Peak learning rate; an adapter takes about 1e-4, a whole model about 1e-5."""
    margin_scale: Annotated[float, Ge(0)] = 0.0
    """The chosen reward must be ahead by so much times the row's `margin`; 0 ignores margins, TRL takes 1."""
    center_rewards_coefficient: Annotated[float, Ge(0)] = 0.0
    """Weight of the mean squared sum of a pair's rewards, which keeps them around zero; 0.01 is usual."""
    disable_dropout: bool = True
    """Train without dropout, the adapter's included, so that the two answers are compared without noise."""


@dataclass(frozen=True, kw_only=True)
class RewardAccuracySettings(Settings):
    """How a reward model is measured on held-out pairs."""

    rows: Annotated[int, Gt(0)] | None = None
    """Held-out pairs to measure, evenly spread over all of them; None measures all."""
    batch_size: Annotated[int, Gt(0)] = 16
    """Pairs a forward pass."""
    max_length: Annotated[int, Gt(0)] | None = None
    """Longest prompt with an answer, in tokens; None takes what the model takes."""
    bins: Annotated[int, Gt(0)] = 10
    """Bins of equal width between 0.5 and 1 in which confidence is compared with accuracy."""
