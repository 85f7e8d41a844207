"""From our settings to the wrapped trainer's own arguments."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from tunesmith import Context, RecipeError
from tunesmith_transformers.online.settings import OnlineSettings
from tunesmith_transformers.training import limits, refused_arguments, schedules
from tunesmith_transformers.training.optimizers import chosen
from tunesmith_transformers.training.settings import TrainingSettings

SAVE_STEPS = 100  # between checkpoints, where the recipe does not say


def build(kind: type[Any], settings: TrainingSettings, context: Context, device: Any, **more: Any) -> Any:
    """Make the arguments of a Transformers or TRL trainer.

    Precision is that of the weights, so the libraries' mixed-precision switches stay off: TRL switches
    bfloat16 on by default, which is many times slower than float32 on most CPUs.

    Args:
        kind: `TrainingArguments` or a class that derives from it.
        device: the device that the model is on.
        more: arguments of the class beyond `TrainingArguments`.

    Raises:
        RecipeError: `[trainer.arguments]` holds a name or value that the class refuses.
    """
    refused_arguments.check(settings, str(device))
    schedule, options = schedules.chosen(settings, settings.arguments.get("lr_scheduler_kwargs"))
    values: dict[str, Any] = {
        "output_dir": str(context.stage_folder / "checkpoints"),
        "per_device_train_batch_size": settings.batch_size,
        "gradient_accumulation_steps": settings.gradient_accumulation_steps,
        "learning_rate": settings.learning_rate,
        "num_train_epochs": settings.epochs,
        "max_steps": settings.max_steps or -1,
        "warmup_steps": settings.warmup_steps if settings.warmup_steps < 1 else int(settings.warmup_steps),
        "lr_scheduler_type": schedule,
        "lr_scheduler_kwargs": options,
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
        "optim": settings.optim,
        "save_strategy": "steps" if settings.saves_per_epoch is None else "no",
        "save_steps": settings.save_steps or SAVE_STEPS,
        "save_total_limit": settings.save_total_limit,
        "logging_steps": settings.logging_steps,
        "logging_nan_inf_filter": False,
        "logging_first_step": True,
        "report_to": [],
        "disable_tqdm": True,
        "bf16": False,
        "fp16": False,
        "use_cpu": str(device) == "cpu",
        "seed": context.seed,
        "data_seed": context.seed,
        "dataloader_pin_memory": str(device) != "cpu",
        **more,
    }
    # the setting has two names: Transformers 5 renamed it, and TRL switches it on by default under the old one
    names = {"gradient_checkpointing", "activation_checkpointing"} & {item.name for item in fields(kind)}
    values |= dict.fromkeys(names, settings.activation_checkpointing)
    values |= {name: value for name, value in settings.arguments.items() if name != "lr_scheduler_kwargs"}
    values["optim"], replaced = chosen(settings, str(device))
    if replaced:
        context.reporter.say(replaced)
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise RecipeError(
            f"{kind.__name__} refuses its arguments: {error}", fix="Look at [trainer] and [trainer.arguments]."
        ) from error


def longest(settings: TrainingSettings | OnlineSettings, model_limit: int | None) -> int | None:
    """The longest row, in tokens.

    Raises:
        RecipeError: `max_length` is more than the model takes.
    """
    limits.check_length(settings.max_length, model_limit)
    return settings.max_length or model_limit
