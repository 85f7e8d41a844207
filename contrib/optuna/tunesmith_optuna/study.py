"""A study of Optuna that keeps itself in SQLite."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import TrialState

from tunesmith import Context, DataError
from tunesmith.disks import DISK_ERRORS, errno_of
from tunesmith.search.space import Choice, Range, Space
from tunesmith.search.study import Outcome, Trial
from tunesmith_optuna import OptunaSettings

FILE = "study.db"
OUTCOMES: dict[TrialState, Outcome] = {
    TrialState.RUNNING: "open",
    TrialState.WAITING: "open",
    TrialState.COMPLETE: "done",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
}
STATES = {"done": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}


def open_study(space: Space, settings: OptunaSettings, context: Context) -> OptunaStudy:
    """Open the study in the search's folder, or begin it.

    Raises:
        DataError: the file is no study.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path = Path(context.stage_folder or ".") / FILE
    try:
        study = optuna.create_study(
            study_name="search",
            storage=f"sqlite:///{path}",
            load_if_exists=True,
            direction="minimize",
            pruner=_pruner(settings),
        )
        study.get_trials(deepcopy=False)
    except Exception as error:  # of SQLite, SQLAlchemy, Alembic or Optuna: what each of them says of a damaged file
        if errno_of(error) in DISK_ERRORS or not path.exists():
            raise
        raise DataError(
            f"the study of this search cannot be read: {(str(error).splitlines() or [type(error).__name__])[0]}",
            where=str(path),
            fix="Restore the file from a copy, or name another folder with --to.",
        ) from error
    # a search that goes on draws other numbers than it drew before, and the same wherever it goes on
    study.sampler = _sampler(settings, context.seed + len(study.get_trials(deepcopy=False)))
    return OptunaStudy(study, space)


class OptunaStudy:
    """See `tunesmith.search.study.Study`."""

    def __init__(self, study: optuna.Study, space: Space) -> None:
        self.study = study
        self.distributions = {one.key: _distribution(one) for one in space}
        self.choices = {one.key: one.values for one in space if isinstance(one, Choice)}

    def ask(self) -> Trial:
        """Begin another trial."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            trial = self.study.ask(self.distributions)
        return Trial(number=trial.number, values=self._values(trial.params))

    def report(self, number: int, step: int, value: float) -> bool:
        """Keep what a trial has come to after a step; whether the pruner gives it up."""
        trial = optuna.trial.Trial(self.study, self._frozen(number)._trial_id)
        trial.report(value, step)
        return trial.should_prune()

    def tell(self, number: int, outcome: Outcome, value: float | None) -> None:
        """End a trial. One that was given up counts by its last report."""
        self.study.tell(number, value if outcome == "done" else None, state=STATES[outcome])

    def trials(self) -> Sequence[Trial]:
        """Every trial, in order."""
        return [
            Trial(number=t.number, values=self._values(t.params), outcome=OUTCOMES[t.state], value=t.value)
            for t in self.study.get_trials(deepcopy=False)
        ]

    def importances(self) -> Mapping[str, float]:
        """Shares by PED-ANOVA (Watanabe et al. 2023, arXiv 2304.10255); empty until four trials have ended."""
        done = [t for t in self.study.get_trials(deepcopy=False) if t.state == TrialState.COMPLETE]
        if len(done) < 4 or len({t.value for t in done}) < 2:
            return {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return get_param_importances(self.study, evaluator=PedAnovaImportanceEvaluator())

    def _frozen(self, number: int) -> optuna.trial.FrozenTrial:
        return next(t for t in self.study.get_trials(deepcopy=False) if t.number == number)

    def _values(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The values by key: Optuna keeps the place of a choice, since it takes only plain values."""
        return {key: self.choices[key][value] if key in self.choices else value for key, value in params.items()}


def _distribution(one: Range | Choice) -> BaseDistribution:
    if isinstance(one, Choice):
        return CategoricalDistribution(tuple(range(len(one.values))))
    if one.integer:
        return IntDistribution(int(one.low), int(one.high), log=one.log, step=int(one.step or 1))
    return FloatDistribution(float(one.low), float(one.high), log=one.log, step=one.step)


def _sampler(settings: OptunaSettings, seed: int) -> optuna.samplers.BaseSampler:
    if settings.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    if settings.sampler == "gp":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.samplers.GPSampler(seed=seed, n_startup_trials=settings.startup_trials)
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=settings.startup_trials)


def _pruner(settings: OptunaSettings) -> optuna.pruners.BasePruner:
    if settings.pruner == "none":
        return optuna.pruners.NopPruner()
    if settings.pruner == "halving":
        return optuna.pruners.SuccessiveHalvingPruner(min_resource=max(1, settings.warmup_steps or 1))
    return optuna.pruners.MedianPruner(n_startup_trials=settings.startup_trials, n_warmup_steps=settings.warmup_steps)
