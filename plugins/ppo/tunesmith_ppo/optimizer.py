"""One optimizer over the policy and the values, each with its rate and its adapter's own parameter groups."""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer
from transformers import Trainer, TrainingArguments, get_scheduler

from tunesmith import Adapted, Context
from tunesmith_ppo import PpoSettings
from tunesmith_ppo.check import shared
from tunesmith_ppo.values import Values
from tunesmith_transformers import arguments


def make(policy: Adapted, values: Values, total_steps: int, settings: PpoSettings, context: Context) -> tuple[Any, Any]:
    """The optimizer and the schedule of its rates.

    Args:
        total_steps: optimizer steps of the whole run.

    Raises:
        RecipeError: there is no such optimizer or schedule.
    """
    device = next(policy.model.parameters()).device
    # Detail 20: Adam with epsilon 1e-5, and a rate that falls linearly to 0
    config = arguments.build(
        TrainingArguments,
        shared(settings),
        context,
        device,
        adam_epsilon=settings.adam_epsilon,
        lr_scheduler_type=settings.lr_scheduler_type,
    )
    kind, options = Trainer.get_optimizer_cls_and_kwargs(config)
    value_rate = settings.learning_rate if settings.value_learning_rate is None else settings.value_learning_rate
    groups = _groups(policy, list(policy.trainable().values()), settings.learning_rate)
    groups += _groups(values.model, values.parameters(), value_rate)
    optimizer: Optimizer = kind(groups, **{**options, "weight_decay": settings.weight_decay})
    scheduler = get_scheduler(
        settings.lr_scheduler_type, optimizer, num_warmup_steps=settings.warmup_steps, num_training_steps=total_steps
    )
    return optimizer, scheduler


def _groups(adapted: Adapted | None, parameters: list[Any], rate: float) -> list[dict[str, Any]]:
    """The parameters at `rate`, with those that the adapter wants otherwise in groups of their own."""
    wanted = (adapted.parameter_groups(rate) if adapted else None) or []
    special = {id(parameter) for group in wanted for parameter in group["params"]}
    rest = [parameter for parameter in parameters if id(parameter) not in special]
    groups = [{"lr": rate, "params": rest}, *({"lr": rate, **group} for group in wanted)]
    return [group for group in groups if group["params"]]
