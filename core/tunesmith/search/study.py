"""What a searcher gives the engine: a study that proposes values and is told what they came to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Outcome = Literal["open", "done", "pruned", "failed"]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One choice of values.

    Args:
        number: from 0 on, in the order in which they were begun.
        values: by key of the recipe.
        outcome: `open` from `ask` until `tell`, also over a crash.
        value: what it came to; None unless it is done, or what it had come to when it was pruned.
    """

    number: int
    values: Mapping[str, Any]
    outcome: Outcome = "open"
    value: float | None = None


class Study(Protocol):
    """A search that survives a crash: what was asked, reported and told is kept at once.

    Lower values are better: the engine turns the sign of measures of which more is better.
    """

    def ask(self) -> Trial:
        """Begin another trial."""

    def report(self, number: int, step: int, value: float) -> bool:
        """Say what a trial has come to after a step; whether it is to be given up."""

    def tell(self, number: int, outcome: Outcome, value: float | None) -> None:
        """End a trial."""

    def trials(self) -> Sequence[Trial]:
        """Every trial, in order."""

    def importances(self) -> Mapping[str, float]:
        """How much each key decided, as shares of 1; empty while that cannot be said."""
