"""Apply LoRA, and the number of parameters its definition gives."""

from __future__ import annotations

from typing import Any

from peft import LoraConfig

from tunesmith import Context, ModelHandle
from tunesmith_lora import LoraSettings
from tunesmith_transformers.peft_adapted import PeftAdapted, check_rank, target_layers, task_type


def apply(handle: ModelHandle, settings: LoraSettings, context: Context) -> PeftAdapted:
    """Wrap the target layers.

    Raises:
        RecipeError: a target is not in the model, or the rank is over a layer's size.
    """
    layers = target_layers(handle.model, settings.target_modules)
    check_rank(layers, settings.rank)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=sorted(layers),
        use_rslora=settings.use_rslora,
        use_dora=settings.use_dora,
        task_type=task_type(handle),
    )
    context.reporter.say(f"lora: rank {settings.rank} on {len(layers)} linear layers")
    return PeftAdapted(handle, config)


def parameters(model: Any, settings: LoraSettings) -> int:
    """rank x (in + out) a layer, and one magnitude an output with DoRA."""
    total = 0
    for layer in target_layers(model, settings.target_modules).values():
        total += settings.rank * (layer.in_features + layer.out_features)
        total += layer.out_features if settings.use_dora else 0
    return total
