"""Apply LoHa and LoKr, and the numbers of parameters that their definitions give."""

from __future__ import annotations

import math
from typing import Any

from peft import LoHaConfig, LoKrConfig

from tunesmith import Context, ModelHandle
from tunesmith_loha import LohaSettings, LokrSettings
from tunesmith_loha.packed import read_shapes
from tunesmith_transformers.peft.adapted import PeftAdapted, check_rank, target_layers, task_type


def loha(handle: ModelHandle, settings: LohaSettings, context: Context) -> PeftAdapted:
    """Wrap the target layers.

    Raises:
        RecipeError: a target is not in the model, or the rank is over a layer's size.
    """
    context.reporter.say(f"loha: two products of rank {settings.rank} a layer")
    return _applied(handle, LoHaConfig(**_common("loha", handle, settings)))


def lokr(handle: ModelHandle, settings: LokrSettings, context: Context) -> PeftAdapted:
    """Wrap the target layers.

    Raises:
        RecipeError: a target is not in the model, or the rank is over a layer's size.
    """
    context.reporter.say(f"lokr: Kronecker products, rank {settings.rank}")
    config = LoKrConfig(
        **_common("lokr", handle, settings),
        decompose_both=settings.decompose_both,
        decompose_factor=settings.decompose_factor or -1,
    )
    return _applied(handle, config)


def loha_parameters(model: Any, settings: LohaSettings) -> int:
    """2 x rank x (in + out) a layer: twice as many as LoRA of the same rank."""
    layers = target_layers(model, settings.target_modules).values()
    return sum(2 * settings.rank * (layer.in_features + layer.out_features) for layer in layers)


def lokr_parameters(model: Any, settings: LokrSettings) -> int:
    """The sizes of C and D, each whole or as a product of rank r."""
    total = 0
    for layer in target_layers(model, settings.target_modules).values():
        c_in, d_in = factors(layer.in_features, settings.decompose_factor)
        c_out, d_out = factors(layer.out_features, settings.decompose_factor)
        for rows, columns, may_decompose in ((c_out, c_in, settings.decompose_both), (d_out, d_in, True)):
            decomposed = may_decompose and settings.rank < max(rows, columns) / 2
            total += settings.rank * (rows + columns) if decomposed else rows * columns
    return total


def factors(size: int, wanted: int | None) -> tuple[int, int]:
    """Two factors of `size`: `wanted` and the rest where it divides, else the nearest smaller divisor first."""
    if wanted is not None and size % wanted == 0:
        return wanted, size // wanted
    largest = math.isqrt(size) if wanted is None else min(wanted, math.isqrt(size))
    first = next(divisor for divisor in range(largest, 0, -1) if size % divisor == 0)
    return first, size // first


def _applied(handle: ModelHandle, config: Any) -> PeftAdapted:
    adapted = PeftAdapted(handle, config)
    if handle.quantized:
        read_shapes(adapted.model)
    return adapted


def _common(method: str, handle: ModelHandle, settings: LohaSettings) -> dict[str, Any]:
    layers = target_layers(handle.model, settings.target_modules, upright=method)
    check_rank(layers, settings.rank)
    return {
        "r": settings.rank,
        "alpha": settings.alpha,
        "rank_dropout": settings.rank_dropout,
        "module_dropout": settings.module_dropout,
        "target_modules": sorted(layers),
        "task_type": task_type(handle),
    }
