"""One optimizer over all that is trained, each part with its rate and its adapter's own parameter groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import nn
from torch.optim import Optimizer
from transformers import Trainer, TrainingArguments, get_scheduler

from tunesmith import Adapted, Context
from tunesmith_transformers.online.check import shared
from tunesmith_transformers.online.settings import OnlineSettings
from tunesmith_transformers.training import arguments, schedules


class Trained(NamedTuple):
    """Some parameters with their learning rate, and the adapter that they belong to, if to one."""

    adapted: Adapted | None
    parameters: list[nn.Parameter]
    rate: float


def make(parts: Sequence[Trained], total_steps: int, settings: OnlineSettings, context: Context) -> tuple[Any, Any]:
    """The optimizer and the schedule of its rates.

    Args:
        parts: what is trained, in a fixed order.
        total_steps: optimizer steps of the whole run.

    Raises:
        RecipeError: there is no such optimizer or schedule.
    """
    training = shared(settings)
    device = parts[0].parameters[0].device
    config = arguments.build(TrainingArguments, training, context, device, adam_epsilon=settings.adam_epsilon)
    kind, options = Trainer.get_optimizer_cls_and_kwargs(config)
    groups = [group for part in parts for group in _groups(part)]
    optimizer: Optimizer = kind(groups, **{**options, "weight_decay": settings.weight_decay})
    schedule, kwargs = schedules.chosen(training)
    scheduler = get_scheduler(
        schedule,
        optimizer,
        num_warmup_steps=settings.warmup_steps,
        num_training_steps=total_steps,
        scheduler_specific_kwargs=kwargs,
    )
    return optimizer, scheduler


def _groups(part: Trained) -> list[dict[str, Any]]:
    """The parameters at their rate, with those that the adapter wants otherwise in groups of their own."""
    wanted = (part.adapted.parameter_groups(part.rate) if part.adapted else None) or []
    special = {id(parameter) for group in wanted for parameter in group["params"]}
    rest = [parameter for parameter in part.parameters if id(parameter) not in special]
    groups = [{"lr": part.rate, "params": rest}, *({"lr": part.rate, **group} for group in wanted)]
    return [group for group in groups if group["params"]]
