"""Bits a parameter, counted on the tensors that a loaded model really holds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch


def quantized_layers(model: Any) -> dict[str, Any]:
    """The layers of bitsandbytes in a model, by full name."""
    from bitsandbytes.nn import Linear4bit, Linear8bitLt

    return {name: module for name, module in model.named_modules() if isinstance(module, (Linear4bit, Linear8bitLt))}


def measured(model: Any) -> dict[str, Any]:
    """What the weights of a model occupy.

    Returns:
        `bits_a_parameter` over the quantized weights, with their scales, nested scales and tables;
        `bits_a_parameter_of_the_model` over all parameters and buffers; `bytes` of the whole model;
        `parameters`, `quantized_parameters`, and `quantized_layers` as counts.
    """
    layers = quantized_layers(model).values()
    packed = [tensor for layer in layers for tensor in weight_tensors(layer)]
    held = sum(layer.in_features * layer.out_features for layer in layers)
    kept = {id(layer.weight) for layer in layers}
    others = [p for p in model.parameters() if id(p) not in kept]
    whole = held + sum(p.numel() for p in others)
    occupied = size([*packed, *others, *model.buffers()])
    return {
        "bits_a_parameter": 8 * size(packed) / held if held else 0.0,
        "bits_a_parameter_of_the_model": 8 * occupied / whole,
        "bytes": occupied,
        "parameters": whole,
        "quantized_parameters": held,
        "quantized_layers": len(layers),
    }


def weight_tensors(layer: Any) -> list[torch.Tensor]:
    """The tensors that stand for a quantized layer's weight: packed values, scales, and the tables to read them."""
    weight = layer.weight
    state = getattr(weight, "quant_state", None)
    if state is not None:
        found = [weight.data, state.absmax, state.code]
        if state.nested:
            found += [state.offset, state.state2.absmax, state.state2.code]
        return found
    # after the first product int8 weights and scales live in the layer's state
    values, scales = layer.state.CB, layer.state.SCB
    return [weight.data if values is None else values, weight.SCB if scales is None else scales]


def size(tensors: Iterable[Any]) -> int:
    """Bytes of tensors; those that share memory count once."""
    seen: dict[int, int] = {}
    for tensor in tensors:
        if tensor is not None:
            storage = tensor.untyped_storage()
            seen[storage.data_ptr()] = max(seen.get(storage.data_ptr(), 0), tensor.numel() * tensor.element_size())
    return sum(seen.values())
