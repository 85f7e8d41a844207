"""Supervised fine-tuning: TRL's SFTTrainer on rows that the token contract has made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from datasets import Dataset as ArrowDataset
from trl import SFTConfig, SFTTrainer

from tunesmith import Adapted, Context, Dataset, RecipeError, TrainResult
from tunesmith.adapted import handles_of
from tunesmith_sft import SftSettings
from tunesmith_sft.objective import loss_of
from tunesmith_sft.packing import PackCollator, check_apart, joined, packs
from tunesmith_sft.rows import encode
from tunesmith_sft.weighted import WeightedCollator
from tunesmith_transformers.tokens.batching import WEIGHTS
from tunesmith_transformers.tokens.rows_file import TokenRows
from tunesmith_transformers.training import arguments
from tunesmith_transformers.training.durable import Durable
from tunesmith_transformers.training.losses import output_head, split_weights, token_losses, total_weight
from tunesmith_transformers.training.neftune import noisy_embeddings


class SupervisedPositions(SFTTrainer):
    """SFTTrainer with its loss over supervised positions only, through the model's own head.

    TRL replaces the model's forward by a fused head that multiplies by `lm_head.weight` itself, which leaves
    out adapters on the head and adapters that are not PEFT's. The model's own forward is put back.
    """

    def __init__(self, model: Any, settings: SftSettings, **options: Any) -> None:
        self.settings = settings
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        with _unadapted_head(model), _own_routing(inner.config.get_text_config()):
            super().__init__(model=model, **options)
        vars(inner).pop("forward", None)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: Any) -> torch.Tensor:
        """The sum of the weights of all supervised tokens; without weights their number."""
        return total_weight(batch_samples).to(device)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Mean loss over the supervised tokens of the whole accumulated batch, by their weights."""
        inputs, weights = split_weights(inputs)  # (N,)
        with noisy_embeddings(model, inputs, self.settings.neftune_noise_alpha):
            losses, _ = token_losses(model, inputs, loss_of(self.settings))  # (N,)
        count = num_items_in_batch if num_items_in_batch is not None else weights.sum()
        loss = (weights.to(losses.device) * losses).sum() / torch.as_tensor(count, device=losses.device)
        return (loss, {"loss": loss}) if return_outputs else loss


@contextmanager
def _unadapted_head(model: Any) -> Iterator[None]:
    """Show TRL the layer below an adapter on the head: it refuses one, which its own fused head would leave out."""
    head = output_head(model)
    below = head.get_base_layer() if hasattr(head, "get_base_layer") else head
    model.get_output_embeddings = lambda: below
    try:
        yield
    finally:
        del model.get_output_embeddings


@contextmanager
def _own_routing(config: Any) -> Iterator[None]:
    """Keep what a configuration says of its routers: TRL writes its own choice into it, which would be exported."""
    names = [name for name in ("output_router_logits", "router_aux_loss_coef") if hasattr(config, name)]
    before = {name: getattr(config, name) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(config, name, value)


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
    encoded = encode(data, handles_of(models), settings, context)
    facts = context.facts["tokens"]
    more: dict[str, Any] = {}
    if settings.packing:
        rows, more = _packed(adapted, encoded, arguments.longest(settings, handle.max_length), context)
    else:
        # with a fingerprint of its own: to make one, datasets would read the whole table
        names = ["input_ids", "labels", *([WEIGHTS] if encoded.weighted else [])]
        rows = ArrowDataset(encoded.table.select(names), fingerprint=facts["digest"][:32])
        if encoded.weighted:
            more = {"data_collator": WeightedCollator(handle.tokenizer.pad_token_id)}
        for name in handle.columns:
            rows = rows.add_column(name, [values[name] for values in encoded.columns or ()])
    device = next(adapted.model.parameters()).device
    config = arguments.build(
        SFTConfig,
        settings,
        context,
        device,
        max_length=None,  # the rows are already cut
        dataset_kwargs={"skip_prepare_dataset": True},
        **({"remove_unused_columns": False} if more else {}),
    )
    # padding may be with the end token: rows are masked by position, never by token id
    trainer = DurableSFT(
        model=adapted.model,
        args=config,
        train_dataset=rows,
        processing_class=handle.tokenizer,
        adapted=adapted,
        context=context,
        settings=settings,
        evaluation=settings,
        group_by_length=settings.group_by_length,
        **more,
    )
    return trainer.run()


def _packed(
    adapted: Adapted, encoded: TokenRows, limit: int | None, context: Context
) -> tuple[ArrowDataset, dict[str, Any]]:
    """The rows in packs, and what the trainer needs to batch them.

    Raises:
        RecipeError: there is no limit to pack to, or the model cannot keep rows apart.
    """
    if limit is None:
        raise RecipeError("packing needs `max_length`: this model sets no limit", fix="Set max_length in [trainer].")
    check_apart(adapted, encoded)
    lengths = encoded.lengths
    chosen = packs(lengths, limit)
    used = sum(lengths) / (len(chosen) * max(sum(lengths[row] for row in pack) for pack in chosen))
    context.facts["packing"] = {"rows": len(lengths), "sequences": len(chosen), "used": round(used, 4)}
    context.reporter.say(f"packing: {len(lengths)} rows in {len(chosen)} sequences, {used:.1%} of their places used")
    rows = joined(encoded, chosen, context.cache)
    return rows, {"data_collator": PackCollator(adapted.handle.tokenizer.pad_token_id)}
