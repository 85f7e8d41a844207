"""A trainer whose loss is a mean over items of the whole accumulated batch, and that logs the means of more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import Trainer, TrainingArguments

from tunesmith import Adapted, Context
from tunesmith_transformers.training import arguments
from tunesmith_transformers.training.settings import TrainingSettings


class MeanTrainer(Trainer):
    """A base for trainers with a loss of their own; put `Durable` in front of what derives it.

    `compute_loss` is given the number of items in the whole accumulated batch and divides its sum by it: then batch
    size times accumulation decides, not how it is split.
    """

    loss_is_scaled_for_ga = True

    def __init__(self, *args: Any, **options: Any) -> None:
        self._noted: dict[str, list[torch.Tensor]] = {}
        super().__init__(*args, **options)

    def count(self, batch: Mapping[str, torch.Tensor]) -> float:
        """Items in a batch that the loss is a mean over, or the sum of their weights."""
        return len(batch["labels"])

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: Any) -> torch.Tensor:
        return torch.tensor(sum(self.count(batch) for batch in batch_samples), device=device)

    def note(self, metrics: Mapping[str, torch.Tensor]) -> None:
        """Keep values (any shape) whose mean since the last line is logged with the loss."""
        for name, values in metrics.items():
            self._noted.setdefault(name, []).append(values.detach().float().flatten())

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the means of what was noted, in place: the durable layer reports the same dictionary."""
        if "loss" in logs:
            for name, values in self._noted.items():
                together = torch.cat(values)
                if together.numel():
                    logs[name] = together.mean().item()
            self._noted.clear()
        super().log(logs, start_time)


def prepare(
    adapted: Adapted, settings: TrainingSettings, context: Context, disable_dropout: bool
) -> tuple[TrainingArguments, int | None]:
    """The trainer's arguments, and the longest row in tokens; dropout is switched off where that is wanted.

    Raises:
        RecipeError: `max_length` is more than the model takes, or an argument is refused.
    """
    limit = arguments.longest(settings, adapted.handle.max_length)
    if disable_dropout and (count := without_dropout(adapted.model)):
        context.reporter.say(f"dropout is off in {count} modules (disable_dropout)")
    device = next(adapted.model.parameters()).device
    return arguments.build(TrainingArguments, settings, context, device, remove_unused_columns=False), limit


def without_dropout(model: nn.Module) -> int:
    """Switch every dropout off; returns how many were on."""
    count = 0
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            name = "p"
        else:
            name = "dropout" if isinstance(module, nn.RNNBase) else "attention_dropout"
        if getattr(module, name, 0.0):
            setattr(module, name, 0.0)
            count += 1
    return count
