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
    rows: tuple[str, ...] = field(default=(), repr=False)
    """The name of each row of `per_row`, so that the measure is given for each task of a mixture too."""
    groups: tuple[str, ...] = field(default=(), repr=False)
    """What each row of `per_row` belongs to, where rows of one group are not independent (answers to one prompt)."""
    smallest: float = 1e-5
    """Smallest change that counts, as a share of the measure's size; a smaller one is rounding, whatever its p."""


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
class Table:
    """Figures in rows that the report prints."""

    name: str
    """Its title."""
    heads: tuple[str, ...]
    """The names of its columns; the first one's values name the rows."""
    rows: tuple[tuple[str | int | float, ...], ...]
    """As many values a row as there are columns."""

    def __post_init__(self) -> None:
        if any(len(row) != len(self.heads) for row in self.rows):
            raise ValueError(f"table {self.name!r}: every row must have {len(self.heads)} values")


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """Counts of pairs that the report draws, such as labels and what was predicted for them."""

    name: str
    """Its title."""
    x: str
    """What its columns are."""
    y: str
    """What its rows are."""
    columns: tuple[str, ...]
    """The columns' names, from left to right."""
    rows: tuple[str, ...]
    """The rows' names, from top to bottom."""
    values: tuple[tuple[int, ...], ...]
    """A row of counts for each of `rows`."""

    def __post_init__(self) -> None:
        if len(self.values) != len(self.rows) or any(len(row) != len(self.columns) for row in self.values):
            raise ValueError(f"matrix {self.name!r}: {len(self.rows)} rows of {len(self.columns)} counts are expected")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What an evaluator returns: measures by name, some samples to look at, and what the report prints and draws."""

    measures: dict[str, Measure]
    samples: tuple[Sample, ...] = ()
    curves: tuple[Curve, ...] = ()
    tables: tuple[Table, ...] = ()
    matrices: tuple[Matrix, ...] = ()


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
