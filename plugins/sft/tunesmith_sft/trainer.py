"""Supervised fine-tuning: TRL's SFTTrainer on rows that the token contract has made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from datasets import Dataset as ArrowDataset
from trl import SFTConfig, SFTTrainer

from tunesmith import Adapted, Context, Dataset, TrainResult
from tunesmith_sft import SftSettings
from tunesmith_transformers import arguments
from tunesmith_transformers.durable import Durable
from tunesmith_transformers.supervised import token_losses
from tunesmith_transformers.tokens import contract, encode


class SupervisedPositions(SFTTrainer):
    """SFTTrainer with its loss over supervised positions only, through the model's own head.

    TRL replaces the model's forward by a fused head that multiplies by `lm_head.weight` itself, which leaves
    out adapters on the head and adapters that are not PEFT's. The model's own forward is put back.
    """

    def __init__(self, model: Any, **options: Any) -> None:
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        super().__init__(model=model, **options)
        vars(inner).pop("forward", None)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Mean negative log-likelihood over the supervised tokens of the whole accumulated batch."""
        losses, _ = token_losses(model, inputs)  # (N,)
        count = num_items_in_batch if num_items_in_batch is not None else losses.numel()
        loss = losses.sum() / torch.as_tensor(count, device=losses.device)
        return (loss, {"loss": loss}) if return_outputs else loss


class DurableSFT(Durable, SupervisedPositions):
    """The trainer that runs: durable, and with the loss above."""

    # the sum is divided by the tokens of the whole accumulated batch, so nothing is left to scale
    loss_is_scaled_for_ga = True


def train(models: Mapping[str, Adapted], data: Dataset, settings: SftSettings, context: Context) -> TrainResult:
    """Encode the rows, check them, train.

    Raises:
        DataError: no row can be used, or the mask trains nothing.
        RecipeError: max_length is more than the model takes.
        NumericalError: a loss or gradient is not finite.
    """
    adapted = models["model"]
    handle = adapted.handle
    limit = arguments.longest(settings, handle.max_length)
    encoded = encode(
        data.train,
        data.type,
        handle.tokenizer,
        max_length=limit,
        overlong=settings.overlong,
        ledger=context.ledger,
        columns=handle.columns,
    )
    context.check_rows()
    context.facts["tokens"] = facts = contract(encoded, handle.tokenizer)
    context.ledger.trained = len(encoded)
    context.reporter.say(
        f"{facts['rows']} rows, {facts['tokens']} tokens, {facts['supervised_share']:.1%} of them supervised"
    )
    rows = ArrowDataset.from_dict(
        {
            "input_ids": [list(row.ids) for row in encoded],
            "labels": [row.labels for row in encoded],
            **{name: [row.columns[name] for row in encoded] for name in handle.columns},
        }
    )
    device = next(adapted.model.parameters()).device
    config = arguments.build(
        SFTConfig,
        settings,
        context,
        device,
        max_length=None,  # the rows are already cut
        dataset_kwargs={"skip_prepare_dataset": True},
    )
    # padding may be with the end token: rows are masked by position, never by token id
    trainer = DurableSFT(
        model=adapted.model,
        args=config,
        train_dataset=rows,
        processing_class=handle.tokenizer,
        adapted=adapted,
        context=context,
        evaluation=settings,
        group_by_length=settings.group_by_length,
    )
    return trainer.run()
