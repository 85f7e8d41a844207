"""The trainers `classify` and `classify-tokens`: a head over labels on an encoder or a decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from tunesmith import Adapted, Context, Dataset, Labels, RecipeError, TrainResult
from tunesmith.adapted import handles_of
from tunesmith_classify.encode import COUNTS, TAGS, Collator
from tunesmith_classify.features import FeatureCollator, features, only_head_moves
from tunesmith_classify.losses import (
    class_weights,
    contrastive_loss,
    divergence,
    label_losses,
    several_losses,
    target_weight,
)
from tunesmith_classify.rates import rates, regroup
from tunesmith_classify.rows import check_kind, encode
from tunesmith_classify.settings import ClassifySettings, TagSettings
from tunesmith_transformers.loading.heads import at_last, check_head_trained, head_call, last_head
from tunesmith_transformers.tokens.encoding import IGNORED
from tunesmith_transformers.training.durable import Durable
from tunesmith_transformers.training.mean_trainer import MeanTrainer, prepare


class ClassifyTrainer(MeanTrainer):
    """Minimizes the cross-entropy of labels, and what the settings add to it.

    Args:
        labels: what the head tells apart.
        weights: what each label counts (L,), or None.
    """

    def __init__(
        self, *args: Any, settings: TagSettings, labels: Labels, weights: torch.Tensor | None, **options: Any
    ) -> None:
        self.settings = settings
        self.labels = labels
        self.weights = weights
        super().__init__(*args, **options)

    def count(self, batch: Mapping[str, torch.Tensor]) -> float:
        return target_weight(batch["labels"], self.weights, self.labels.several, batch.get(COUNTS))

    def create_optimizer(self, model: Any = None) -> Any:
        optimizer = super().create_optimizer(model)
        regroup(optimizer, rates(self.model, self.settings))
        return optimizer

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The micro-batch's share in the mean over the whole accumulated batch."""
        inputs = dict(inputs)
        targets, counts = inputs.pop("labels"), inputs.pop(COUNTS, None)
        own = target_weight(targets, self.weights, self.labels.several, counts)
        total = own if num_items_in_batch is None else num_items_in_batch
        texts = self.settings if isinstance(self.settings, ClassifySettings) else ClassifySettings()
        twice = texts.twice
        if twice:
            inputs = {name: torch.cat((value, value)) for name, value in inputs.items()}
        read, logits = self._head_call(model, inputs)
        if targets.dim() == 2 and not self.labels.several:  # tagged words: virtual tokens stand in front of them
            logits = logits[:, logits.shape[1] - targets.shape[1] :]  # (B, T, L)
            counts = None if counts is None else counts[:, None].expand(targets.shape).flatten()
            logits, targets = logits.flatten(0, 1), targets.flatten()
        else:
            logits = at_last(logits, inputs["attention_mask"])  # (B, L)
        weights = None if self.weights is None else self.weights.to(logits.device)
        losses = several_losses if self.labels.several else label_losses
        given = torch.cat((targets, targets)) if twice else targets
        if twice and counts is not None:
            counts = torch.cat((counts, counts))
        loss = losses(logits, given, weights, self.settings.label_smoothing, counts) / total / (2 if twice else 1)
        share = own / total
        if texts.r_drop:
            loss = loss + texts.r_drop * share * divergence(logits, self.labels.several)
        if texts.contrastive:
            texts_read = at_last(read, inputs["attention_mask"])  # (2B, H)
            loss = loss + texts.contrastive * share * contrastive_loss(texts_read, given, texts.contrastive_temperature)
        self._note(logits.detach(), given)
        return (loss, {"loss": loss, "logits": logits}) if return_outputs else loss

    def _head_call(self, model: Any, inputs: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """What the head reads and gives; what it reads may be known already."""
        if (read := inputs.pop("features", None)) is None:
            return head_call(model, inputs)
        head = last_head(model)
        return read, head(read.to(next(head.parameters()).dtype)).float()

    def _note(self, logits: torch.Tensor, targets: torch.Tensor) -> None:
        if self.labels.several:
            self.note({"accuracy": (logits > 0) == (targets > 0.5)})
            return
        kept = targets != IGNORED
        self.note({"accuracy": logits[kept].argmax(dim=-1) == targets[kept]})


class DurableClassify(Durable, ClassifyTrainer):
    """The trainer that runs."""


def train(models: Mapping[str, Adapted], data: Dataset, settings: TagSettings, context: Context) -> TrainResult:
    """Encode the rows, check them, train.

    Raises:
        DataError: too many rows are lost, or the model's labels are not those of the rows.
        RecipeError: max_length is more than the model takes, the adapter leaves the head untrained, or settings do not
            fit the rows.
        NumericalError: a loss or gradient is not finite.
    """
    adapted = models["model"]
    handle = adapted.handle
    labels = handle.labels
    assert labels is not None
    _check(labels, data, settings)
    check_head_trained(adapted)
    config, _ = prepare(adapted, settings, context, settings.disable_dropout)
    rows = encode(data, handles_of(models), settings, context)
    examples = rows.items
    collate: Any = Collator(handle.tokenizer.pad_token_id, data.type, labels)
    if _once(data, settings) and only_head_moves(adapted):
        known = features(adapted, examples, collate, context)
        collate = collate if known is None else FeatureCollator(collate, examples, known)
    trainer = DurableClassify(
        model=adapted.model,
        args=config,
        train_dataset=rows,
        data_collator=collate,
        processing_class=handle.tokenizer,
        settings=settings,
        labels=labels,
        weights=class_weights(settings.class_weights, labels, examples),
        adapted=adapted,
        context=context,
        evaluation=settings,
        group_by_length=settings.group_by_length,
    )
    return trainer.run()


def _once(data: Dataset, settings: TagSettings) -> bool:
    """Whether what a frozen model says of a row may be computed once: two passes need dropout."""
    return data.type != TAGS and not settings.twice


def _check(labels: Labels, data: Dataset, settings: TagSettings) -> None:
    """Refuse what the model's head or the settings cannot do with these rows.

    Raises:
        DataError: the head was made for one label a text, and rows have several, or the other way round.
    """
    check_kind(labels, data)
    if data.type == TAGS or not isinstance(settings, ClassifySettings):
        return
    if settings.contrastive and labels.several:
        raise RecipeError(
            "contrastive needs one label a text: what is alike of two texts with several is not defined",
            fix="Leave `contrastive` out of [trainer].",
        )
