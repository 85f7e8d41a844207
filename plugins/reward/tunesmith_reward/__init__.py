"""Reward models from ranked answers."""

from __future__ import annotations

from collections.abc import Iterator

from tunesmith import Evaluator, Role, Trainer, hookimpl
from tunesmith_reward.settings import RewardAccuracySettings, RewardSettings

REQUIRES = ("torch", "transformers", "tunesmith_transformers")


@hookimpl
def tunesmith_trainers() -> Iterator[Trainer]:
    """The trainer `reward`."""
    yield Trainer(
        name="reward",
        summary="A reward model from pairs of answers: Bradley-Terry loss, margins, centred rewards",
        factory="tunesmith_reward.trainer:train",
        settings=RewardSettings,
        requires=REQUIRES,
        roles=(Role(name="model", trainable=True, head="scalar", summary="the language model under a scalar head"),),
        accepts=("preference",),
        arguments="transformers.training_args:TrainingArguments",
        evaluators=("reward-accuracy",),
        encode="tunesmith_reward.rows:encode",
        show="tunesmith_reward.rows:show",
        rate="learning_rate",
        check="tunesmith_transformers.training.optimizers:check",
        fits="tunesmith_transformers.training.limits:of_first",
        estimate="tunesmith_transformers.estimates.training_cost:pairs",
    )


@hookimpl
def tunesmith_evaluators() -> Iterator[Evaluator]:
    """How well a reward model orders held-out answers, and how well it knows."""
    yield Evaluator(
        name="reward-accuracy",
        summary="Held-out pairs that a reward model orders rightly, its loss on them, and its calibration",
        factory="tunesmith_reward.accuracy:evaluate",
        measures=("pair_accuracy", "pair_loss", "calibration_error"),
        settings=RewardAccuracySettings,
        requires=REQUIRES,
        accepts=("preference",),
    )
