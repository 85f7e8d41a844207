"""Apply LoRA, and the number of parameters its definition gives."""

from __future__ import annotations

from typing import Any

from peft import LoraConfig

from tunesmith import Context, ModelHandle, RecipeError
from tunesmith_lora import LoraSettings
from tunesmith_transformers.peft_adapted import PeftAdapted, target_layers


def apply(handle: ModelHandle, settings: LoraSettings, context: Context) -> PeftAdapted:
    """Wrap the target layers.

    Raises:
        RecipeError: a target is not in the model, or the rank is over a layer's size.
    """
    layers = target_layers(handle.model, settings.target_modules)
    for name, layer in layers.items():
        smallest = min(layer.in_features, layer.out_features)
        if settings.rank > smallest:
            raise RecipeError(
                f"rank = {settings.rank} is over the size of {name} ({layer.in_features} x {layer.out_features})",
                fix=f"Set rank = {smallest} or less in [adapter], or leave that layer out of target_modules.",
            )
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=sorted(layers),
        use_rslora=settings.use_rslora,
        use_dora=settings.use_dora,
        task_type="CAUSAL_LM" if handle.head == "causal-lm" else None,
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
