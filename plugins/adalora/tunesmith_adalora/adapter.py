"""Apply AdaLoRA: the settings checked, the schedule from the run's steps, the parameters its definition gives."""

from __future__ import annotations

from typing import Any

from peft import AdaLoraConfig

from tunesmith import Context, ModelHandle, RecipeError
from tunesmith_adalora import AdaloraSettings
from tunesmith_adalora.handle import AdaloraAdapted
from tunesmith_transformers.peft.adapted import check_rank, target_layers, task_type
from tunesmith_transformers.peft.layers import sides

#: PEFT wants the total when it is configured; a run knows it only when training begins.
UNKNOWN_STEPS = 1 << 40


def apply(handle: ModelHandle, settings: AdaloraSettings, context: Context) -> AdaloraAdapted:
    """Wrap the target layers.

    Raises:
        RecipeError: a target is not in the model, the rank is over a layer's size, or has nowhere to fall.
    """
    if settings.target_rank >= settings.init_rank:
        raise RecipeError(
            f"target_rank = {settings.target_rank} is not below init_rank = {settings.init_rank}: "
            "no rank could be taken from any layer",
            fix="Set init_rank over target_rank in [adapter] (1.5 times is usual), or use lora for a fixed rank.",
        )
    layers = target_layers(handle.model, settings.target_modules)
    check_rank(layers, settings.init_rank, "init_rank")
    config = AdaLoraConfig(
        target_r=settings.target_rank,
        init_r=settings.init_rank,
        total_step=UNKNOWN_STEPS,
        deltaT=settings.deltaT,
        beta1=settings.beta1,
        beta2=settings.beta2,
        orth_reg_weight=settings.orth_reg_weight,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=sorted(layers),
        task_type=task_type(handle),
    )
    context.reporter.say(
        f"adalora: rank {settings.init_rank} falling to a mean of {settings.target_rank} on {len(layers)} linear layers"
    )
    return AdaloraAdapted(handle, config, settings.tinit, settings.tfinal, context)


def parameters(model: Any, settings: AdaloraSettings) -> int:
    """init_rank x (in + out + 1) a layer: all ranks are trained until they are cut."""
    layers = target_layers(model, settings.target_modules).values()
    return sum(settings.init_rank * (sum(sides(layer)) + 1) for layer in layers)
