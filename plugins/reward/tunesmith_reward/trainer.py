"""Reward modelling (Ouyang et al. 2022, arXiv 2203.02155): a scalar for each answer, higher for the better one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import logsigmoid

from tunesmith import Adapted, Context, Dataset, TrainResult
from tunesmith.adapted import handles_of
from tunesmith_reward.rows import encode
from tunesmith_reward.settings import RewardSettings
from tunesmith_transformers.loading.heads import check_head_trained, scores
from tunesmith_transformers.tokens.pairs import Pair, collate_pairs, margins, pair_weights
from tunesmith_transformers.training.durable import Durable
from tunesmith_transformers.training.mean_trainer import MeanTrainer, prepare


@dataclass(frozen=True)
class Collator:
    """Pairs to a batch: what `collate_pairs` gives, `pair_weights` (B,), and `margin` (B,) where the loss wants it."""

    pad_token_id: int
    with_margins: bool

    def __call__(self, pairs: Sequence[Pair]) -> dict[str, torch.Tensor]:
        batch = {**collate_pairs(pairs, self.pad_token_id), "pair_weights": pair_weights(pairs)}
        return {**batch, "margin": margins(pairs)} if self.with_margins else batch


class RewardTrainer(MeanTrainer):
    """Minimizes the negative log-likelihood of the order of each pair under Bradley and Terry's model."""

    def __init__(self, *args: Any, settings: RewardSettings, **options: Any) -> None:
        self.settings = settings
        super().__init__(*args, **options)

    def count(self, batch: Mapping[str, torch.Tensor]) -> float:
        return float(batch["pair_weights"].sum()) if "pair_weights" in batch else len(batch["labels"]) // 2

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The micro-batch's share in the mean over the whole accumulated batch."""
        inputs = dict(inputs)
        margin, labels = inputs.pop("margin", None), inputs.pop("labels")
        weights = inputs.pop("pair_weights", torch.ones(len(labels) // 2, device=labels.device))  # (B,)
        rewards = scores(model, inputs)  # (2B,)
        chosen, rejected = rewards.chunk(2)
        values = pair_losses(chosen, rejected, margin, self.settings)  # (B,)
        loss = (weights * values).sum() / (weights.sum() if num_items_in_batch is None else num_items_in_batch)
        self.note(
            {
                "rewards/chosen": chosen,
                "rewards/rejected": rejected,
                "rewards/accuracies": chosen > rejected,
                "rewards/margins": chosen - rejected,
            }
        )
        return (loss, {"loss": loss, "logits": rewards}) if return_outputs else loss


class DurableReward(Durable, RewardTrainer):
    """The trainer that runs."""


def pair_losses(
    chosen: torch.Tensor, rejected: torch.Tensor, margin: torch.Tensor | None, settings: RewardSettings
) -> torch.Tensor:
    """-log sigmoid(r_w - r_l - scale x margin) + coefficient x (r_w + r_l)^2 of each pair (B,).

    Ouyang et al. 2022, equation 1; margins as in Touvron et al. 2023 (2307.09288), equation 2; centring as in
    Eisenstein et al. 2023 (2312.09244), equation 2.
    """
    ahead = chosen - rejected
    if margin is not None:
        ahead = ahead - settings.margin_scale * margin
    return -logsigmoid(ahead) + settings.center_rewards_coefficient * (chosen + rejected) ** 2


def train(models: Mapping[str, Adapted], data: Dataset, settings: RewardSettings, context: Context) -> TrainResult:
    """Encode the pairs, check them, train.

    Raises:
        DataError: too many pairs are lost, none can be used, or margins are wanted and lacking.
        RecipeError: max_length is more than the model takes, or the adapter leaves the head untrained.
        NumericalError: a loss or gradient is not finite.
    """
    adapted = models["model"]
    handle = adapted.handle
    check_head_trained(adapted)
    config, _ = prepare(adapted, settings, context, settings.disable_dropout)
    rows = encode(data, handles_of(models), settings, context)
    trainer = DurableReward(
        model=adapted.model,
        args=config,
        train_dataset=rows,
        data_collator=Collator(handle.tokenizer.pad_token_id, settings.margin_scale > 0),
        processing_class=handle.tokenizer,
        settings=settings,
        adapted=adapted,
        context=context,
        evaluation=settings,
        group_by_length=settings.group_by_length,
    )
    return trainer.run()
