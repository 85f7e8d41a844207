"""What trainers and evaluators return: records without torch in them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One number that an evaluator reports, with its uncertainty."""

    value: float
    better: Literal["higher", "lower"]
    low: float | None = None
    """Lower end of the 95 % interval."""
    high: float | None = None
    """Upper end of the 95 % interval."""
    n: int = 0
    """Rows it was measured on."""
    unit: str = ""
    per_row: tuple[float, ...] = field(default=(), repr=False)
    """The value of each row where the measure has one, for paired tests."""
    weights: tuple[float, ...] = field(default=(), repr=False)
    """How much each row counts in the value (its tokens, ...); empty where all count alike."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One held-out row with what the model answered."""

    row: str
    prompt: str
    answer: str
    reference: str


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A series of points that the report draws."""

    name: str
    """Its title."""
    x: str
    """What the horizontal axis is."""
    points: tuple[tuple[float, float], ...]
    """From left to right."""
    ideal: tuple[tuple[float, float], ...] = ()
    """A line to compare it with, where there is one."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What an evaluator returns: measures by name, some samples to look at, and curves to draw."""

    measures: dict[str, Measure]
    samples: tuple[Sample, ...] = ()
    curves: tuple[Curve, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """What a trainer returns.

    `stopped` is the signal number when a stop was asked for and the state was committed before the
    last step; None for a run that reached its end.
    """

    steps: int
    total_steps: int
    metrics: dict[str, float]
    seconds: float
    tokens: int = 0
    stopped: int | None = None
