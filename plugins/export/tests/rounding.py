"""A quantizer that rounds, dense tensors with the error of few bits, and an adapter that works over it alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import torch

from tunesmith import (
    Adapted,
    Adapter,
    Context,
    Gt,
    ModelHandle,
    Quantization,
    Quantizer,
    RecipeError,
    Settings,
    hookimpl,
)


@dataclass(frozen=True, kw_only=True)
class RoundingSettings(Settings):
    step: Annotated[float, Gt(0)] = 0.05
    """Weights of linear layers become multiples of it."""


def rounding(settings: RoundingSettings, context: Context) -> Quantization:
    def after_load(handle: ModelHandle) -> ModelHandle:
        with torch.no_grad():
            for name, module in handle.model.named_modules():
                if isinstance(module, torch.nn.Linear) and name != "lm_head":
                    module.weight.copy_((module.weight / settings.step).round() * settings.step)
        return handle

    return Quantization(name="rounded", after_load=after_load)


def careful(handle: ModelHandle, settings: Settings, context: Context) -> Adapted:
    """The final norm moves."""
    if not handle.quantized:
        raise RecipeError("careful works over rounded weights only")
    handle.model.model.norm.weight.requires_grad_(True)
    return Adapted(handle)


@hookimpl
def tunesmith_adapters() -> Iterator[Adapter]:
    yield Adapter(name="careful", summary="Refuses a dense base", factory=careful)


@hookimpl
def tunesmith_quantizers() -> Iterator[Quantizer]:
    yield Quantizer(name="rounding", summary="Rounds weights", factory=rounding, settings=RoundingSettings)
