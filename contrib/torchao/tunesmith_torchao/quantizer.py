"""Quantize a loaded model: every linear layer of its body, one after another."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace as with_changes

import torch

from tunesmith import Context, ModelHandle, Quantization
from tunesmith_torchao import Int4Settings, Int8Settings
from tunesmith_torchao.bits import measured
from tunesmith_torchao.layers import QuantizedLinear, replace
from tunesmith_torchao.places import dense_layers
from tunesmith_torchao.tensors import int4_tensor, int8_tensor


def int4(settings: Int4Settings, context: Context) -> Quantization:
    """4-bit integers with a scale and a zero point a group.

    Raises:
        RecipeError: when applied, for a model or settings that do not fit (see `dense_layers`).
    """
    return _quantization("torchao-int4", settings, int4_tensor, context)


def int8(settings: Int8Settings, context: Context) -> Quantization:
    """8-bit integers with a scale a row or a group.

    Raises:
        RecipeError: when applied, for a model or settings that do not fit (see `dense_layers`).
    """
    return _quantization("torchao-int8", settings, int8_tensor, context)


def _quantization(
    name: str,
    settings: Int4Settings | Int8Settings,
    make: Callable[[torch.Tensor, int | None], torch.Tensor],
    context: Context,
) -> Quantization:
    def after_load(handle: ModelHandle) -> ModelHandle:
        layers = dense_layers(handle, settings.skip_modules, settings.group_size, "quantizer")
        for layer_name, layer in layers.items():
            made = QuantizedLinear.of(layer, lambda weight: make(weight, settings.group_size))
            replace(handle.model, layer_name, made)
        facts = measured(handle.model)
        context.facts["quantization"] = {"quantizer": name, **facts}
        # PEFT's remark on merging into the quantized weights, one a layer
        warnings.filterwarnings("ignore", message=".*without `get_apply_tensor_subclass`")
        note = (
            f"{name}: {facts['bits_a_parameter']:.3f} bits a parameter in {facts['quantized_layers']} quantized layers "
            f"({facts['quantized_parameters']:,} parameters), {facts['bits_a_parameter_of_the_model']:.3f} over the "
            f"whole model, {facts['bytes'] / 1e6:.1f} MB; heads and embeddings stay dense"
        )
        return with_changes(handle, notes=(*handle.notes, note))

    return Quantization(name=name, after_load=after_load)
