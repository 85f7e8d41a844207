"""The trainers' factories."""

from __future__ import annotations

from collections.abc import Mapping

from tunesmith import Adapted, Context, Dataset, TrainResult
from tunesmith_preference import objectives, pairwise
from tunesmith_preference.settings import CpoSettings, DpoSettings, IpoSettings, OrpoSettings, SimpoSettings

Models = Mapping[str, Adapted]


def dpo(models: Models, data: Dataset, settings: DpoSettings, context: Context) -> TrainResult:
    """Train with a loss on pairs and a reference; raises as `pairwise.train`."""
    return pairwise.train(models, data, settings, context, objectives.dpo(settings))


def ipo(models: Models, data: Dataset, settings: IpoSettings, context: Context) -> TrainResult:
    """Train with IPO's loss; raises as `pairwise.train`."""
    return pairwise.train(models, data, settings, context, objectives.ipo(settings))


def orpo(models: Models, data: Dataset, settings: OrpoSettings, context: Context) -> TrainResult:
    """Train with ORPO's loss; raises as `pairwise.train`."""
    return pairwise.train(models, data, settings, context, objectives.orpo(settings))


def cpo(models: Models, data: Dataset, settings: CpoSettings, context: Context) -> TrainResult:
    """Train with CPO's loss; raises as `pairwise.train`."""
    return pairwise.train(models, data, settings, context, objectives.cpo(settings))


def simpo(models: Models, data: Dataset, settings: SimpoSettings, context: Context) -> TrainResult:
    """Train with SimPO's loss; raises as `pairwise.train`."""
    return pairwise.train(models, data, settings, context, objectives.simpo(settings))
