"""Learning from preferences without a reward model: DPO, IPO, KTO, ORPO, CPO, SimPO."""

from __future__ import annotations

from collections.abc import Iterator

from tunesmith import Evaluator, Role, Trainer, hookimpl
from tunesmith_preference.settings import (
    AccuracySettings,
    CpoSettings,
    DpoSettings,
    IpoSettings,
    KtoSettings,
    OrpoSettings,
    SimpoSettings,
)

REQUIRES = ("torch", "transformers", "tunesmith_transformers")
ARGUMENTS = "transformers.training_args:TrainingArguments"
ENCODE, SHOW = "tunesmith_preference.rows:encode", "tunesmith_preference.rows:show"
POLICY = Role(name="policy", trainable=True, summary="the language model that is tuned")
REFERENCE = Role(name="reference", default="policy:disabled", summary="what it is held to; stays as it is")

#: Settings that the conformance kit tries.
tunesmith_examples = {
    "dpo": [{}, {"loss_type": ["sigmoid", "sft"], "loss_weights": [1.0, 0.2], "precompute_reference": True}],
}


@hookimpl
def tunesmith_trainers() -> Iterator[Trainer]:
    """Those with a reference, then those without."""
    yield Trainer(
        name="dpo",
        summary="Direct preference optimization on pairs, with TRL's fifteen losses by name",
        factory="tunesmith_preference.trainer:dpo",
        settings=DpoSettings,
        requires=REQUIRES,
        roles=(POLICY, REFERENCE),
        accepts=("preference",),
        arguments=ARGUMENTS,
        evaluators=("preference-accuracy",),
        encode=ENCODE,
        show=SHOW,
        rate="learning_rate",
        check="tunesmith_preference.check:dpo",
        fits="tunesmith_transformers.training.limits:of_all",
        estimate="tunesmith_transformers.estimates.training_cost:compared_pairs",
    )
    yield Trainer(
        name="ipo",
        summary="Identity preference optimization: DPO that does not run away on pairs without doubt",
        factory="tunesmith_preference.trainer:ipo",
        settings=IpoSettings,
        requires=REQUIRES,
        roles=(POLICY, REFERENCE),
        accepts=("preference",),
        arguments=ARGUMENTS,
        evaluators=("preference-accuracy",),
        encode=ENCODE,
        show=SHOW,
        rate="learning_rate",
        check="tunesmith_transformers.training.optimizers:check",
        fits="tunesmith_transformers.training.limits:of_all",
        estimate="tunesmith_transformers.estimates.training_cost:compared_pairs",
    )
    yield Trainer(
        name="kto",
        summary="Kahneman-Tversky optimization on single answers, wanted or unwanted",
        factory="tunesmith_preference.unpaired:kto",
        settings=KtoSettings,
        requires=REQUIRES,
        roles=(POLICY, REFERENCE),
        accepts=("unpaired-preference",),
        arguments=ARGUMENTS,
        evaluators=("preference-accuracy",),
        encode="tunesmith_preference.answers:encode",
        show="tunesmith_preference.answers:show",
        rate="learning_rate",
        check="tunesmith_transformers.training.optimizers:check",
        fits="tunesmith_transformers.training.limits:of_all",
    )
    yield Trainer(
        name="orpo",
        summary="Odds ratio preference optimization: supervised tuning and preference in one, no reference",
        factory="tunesmith_preference.trainer:orpo",
        settings=OrpoSettings,
        requires=REQUIRES,
        roles=(POLICY,),
        accepts=("preference",),
        arguments=ARGUMENTS,
        evaluators=("preference-accuracy",),
        encode=ENCODE,
        show=SHOW,
        rate="learning_rate",
        check="tunesmith_transformers.training.optimizers:check",
        fits="tunesmith_transformers.training.limits:of_all",
        estimate="tunesmith_transformers.estimates.training_cost:pairs",
    )
    yield Trainer(
        name="cpo",
        summary="Contrastive preference optimization: DPO's loss without a reference, and a likelihood term",
        factory="tunesmith_preference.trainer:cpo",
        settings=CpoSettings,
        requires=REQUIRES,
        roles=(POLICY,),
        accepts=("preference",),
        arguments=ARGUMENTS,
        evaluators=("preference-accuracy",),
        encode=ENCODE,
        show=SHOW,
        rate="learning_rate",
        check="tunesmith_transformers.training.optimizers:check",
        fits="tunesmith_transformers.training.limits:of_all",
        estimate="tunesmith_transformers.estimates.training_cost:pairs",
    )
    yield Trainer(
        name="simpo",
        summary="Simple preference optimization: mean log-probabilities with a margin, no reference",
        factory="tunesmith_preference.trainer:simpo",
        settings=SimpoSettings,
        requires=REQUIRES,
        roles=(POLICY,),
        accepts=("preference",),
        arguments=ARGUMENTS,
        evaluators=("preference-accuracy",),
        encode=ENCODE,
        show=SHOW,
        rate="learning_rate",
        check="tunesmith_transformers.training.optimizers:check",
        fits="tunesmith_transformers.training.limits:of_all",
        estimate="tunesmith_transformers.estimates.training_cost:pairs",
    )


@hookimpl
def tunesmith_evaluators() -> Iterator[Evaluator]:
    """How a policy orders held-out answers by itself."""
    yield Evaluator(
        name="preference-accuracy",
        summary="Share of held-out pairs whose chosen answer the model finds likelier, summed and by token",
        factory="tunesmith_preference.accuracy:evaluate",
        measures=("pair_accuracy", "pair_accuracy_per_token"),
        settings=AccuracySettings,
        requires=REQUIRES,
        accepts=("preference", "unpaired-preference"),
    )
