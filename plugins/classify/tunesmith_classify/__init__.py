"""Classifiers: a label a text, several a text, or one a word; and how right they are, tuned or prompted."""

from __future__ import annotations

from collections.abc import Iterator

from tunesmith import Evaluator, Role, Trainer, hookimpl
from tunesmith_classify.settings import ClassificationSettings, ClassifySettings, LikelihoodSettings, TagSettings

REQUIRES = ("torch", "transformers", "tunesmith_transformers")
AVERAGES = tuple(f"{name}_{over}" for name in ("precision", "recall", "f1") for over in ("macro", "weighted"))
MEASURES = ("accuracy", "exact_match", *AVERAGES, "f1_micro", "entity_f1", "calibration_error")


@hookimpl
def tunesmith_trainers() -> Iterator[Trainer]:
    """The trainers `classify` and `classify-tokens`."""
    yield Trainer(
        name="classify",
        summary="A classifier of texts, one label or several each: cross-entropy, class weights, label smoothing",
        factory="tunesmith_classify.trainer:train",
        settings=ClassifySettings,
        requires=REQUIRES,
        roles=(Role(name="model", trainable=True, head="sequence-labels", summary="encoder or decoder under a head"),),
        accepts=("text-label", "text-labels"),
        arguments="transformers.training_args:TrainingArguments",
        encode="tunesmith_classify.rows:encode",
        show="tunesmith_classify.rows:show",
        rate="learning_rate",
        estimate="tunesmith_classify.estimate:training",
        check="tunesmith_transformers.training.optimizers:check",
        fits="tunesmith_transformers.training.limits:of_first",
    )
    yield Trainer(
        name="classify-tokens",
        summary="A classifier of words (entities, parts of speech): cross-entropy at each word's first token",
        factory="tunesmith_classify.trainer:train",
        settings=TagSettings,
        requires=REQUIRES,
        roles=(Role(name="model", trainable=True, head="token-labels", summary="encoder or decoder under a head"),),
        accepts=("tokens-tags",),
        arguments="transformers.training_args:TrainingArguments",
        encode="tunesmith_classify.rows:encode",
        show="tunesmith_classify.rows:show",
        rate="learning_rate",
        estimate="tunesmith_classify.estimate:training",
        check="tunesmith_transformers.training.optimizers:check",
        fits="tunesmith_transformers.training.limits:of_first",
    )


@hookimpl
def tunesmith_evaluators() -> Iterator[Evaluator]:
    """How right a classifier is, and how right a language model is that is asked for the same labels."""
    needs = (*REQUIRES, "sklearn")
    yield Evaluator(
        name="classification",
        summary="Accuracy, precision, recall and F1 by label and on average, confusion matrix, calibration",
        factory="tunesmith_classify.classification:evaluate",
        measures=MEASURES,
        settings=ClassificationSettings,
        requires=needs,
        accepts=("text-label", "text-labels", "tokens-tags"),
    )
    yield Evaluator(
        name="label-likelihood",
        summary="The same measures of a language model: of all labels, the one that it finds likeliest",
        factory="tunesmith_classify.likelihood:evaluate",
        measures=MEASURES,
        settings=LikelihoodSettings,
        requires=needs,
        accepts=("text-label", "prompt-completion", "messages"),
    )
