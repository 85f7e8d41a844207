"""Hyper-parameter search on Optuna."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from tunesmith import Ge, Searcher, Settings, hookimpl


@dataclass(frozen=True, kw_only=True)
class OptunaSettings(Settings):
    """How values are proposed, and when a trial is given up."""

    sampler: Literal["tpe", "random", "gp"] = "tpe"
    """How values are proposed: tpe learns from earlier trials, gp too (a Gaussian process, needs scipy), random not."""
    startup_trials: Annotated[int, Ge(0)] = 5
    """Trials that are drawn at random before tpe learns from them, and before any trial is given up."""
    pruner: Literal["median", "halving", "none"] = "median"
    """When a trial is given up: median where it is behind the median of the others at that step, halving by successive
    halving, none never. It needs `eval_steps` or `evals_per_epoch` in [trainer]."""
    warmup_steps: Annotated[int, Ge(0)] = 0
    """Training steps before which no trial is given up."""


@hookimpl
def tunesmith_searchers() -> Iterator[Searcher]:
    """The searcher `optuna`."""
    yield Searcher(
        name="optuna",
        summary="Search with Optuna: TPE, pruning, a study in SQLite that goes on after a crash",
        factory="tunesmith_optuna.study:open_study",
        settings=OptunaSettings,
        requires=("optuna",),
    )
