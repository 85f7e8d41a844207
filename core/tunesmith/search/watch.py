"""What a search hears of a trial while it runs, and when it gives it up."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tunesmith.errors import Stopped
from tunesmith.hooks import hookimpl
from tunesmith.search.study import Study


class Pruned(Stopped):
    """A trial was given up because others had come further by then."""

    def __init__(self, step: int) -> None:
        super().__init__(0, f"given up after step {step}: other trials had come further by then")


class Watch:
    """Hands a trial's intermediate measures to its study; gives it up when the study says so."""

    def __init__(self) -> None:
        self.study: Study | None = None
        self.number = -1
        self.measure: str | None = None
        self.last: float | None = None  # what the study was told: lower is better
        self.shown: float | None = None  # the same as it was measured

    def begin(self, study: Study, number: int, measure: str | None) -> None:
        self.study, self.number, self.measure, self.last, self.shown = study, number, measure, None, None

    def end(self) -> None:
        self.study = None

    @hookimpl
    def tunesmith_evaluated(self, stage: str, step: int, measures: Mapping[str, Any]) -> None:
        if self.study is None or not measures:
            return
        found = measures.get(self.measure) if self.measure else next(iter(measures.values()))
        if found is None or not math.isfinite(found.value):
            return
        self.shown, self.last = found.value, signed(found.value, found.better)
        if self.study.report(self.number, step, self.last):
            raise Pruned(step)


def signed(value: float, better: str) -> float:
    """The value as a study is told it: lower is better."""
    return value if better == "lower" else -value
