"""LoHa and LoKr over 4-bit weights, whose tensors have another shape than the layer."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from peft.tuners.loha.layer import LoHaLayer
from peft.tuners.lycoris_utils import LycorisLayer


def read_shapes(model: Any) -> None:
    """Give the updates of packed layers the shape (out, in) of the layer instead of that of the packed tensor."""
    for layer in model.modules():
        if isinstance(layer, LycorisLayer):
            base = layer.get_base_layer()
            shape = (base.out_features, base.in_features)
            if tuple(base.weight.shape) != shape:
                if isinstance(layer, LoHaLayer):
                    _made_again(layer, shape, base.weight.device)
                _shaped(layer, shape)


def _made_again(layer: LoHaLayer, shape: tuple[int, int], device: torch.device) -> None:
    """PEFT has made the factors of LoHa for the packed tensor; LoKr asks the layer for its sides."""
    for name in list(layer.hada_w1_a):
        layer.create_adapter_parameters(name, layer.r[name], shape)
        layer.reset_adapter_parameters(name)  # the second product starts at zero
        for factors in (layer.hada_w1_a, layer.hada_w1_b, layer.hada_w2_a, layer.hada_w2_b):
            factors[name] = torch.nn.Parameter(factors[name].to(device))


def _shaped(layer: Any, shape: tuple[int, int]) -> None:
    plain = layer.get_delta_weight
    stand_in = SimpleNamespace(weight=torch.empty(shape, device="meta"))  # PEFT asks it for its shape alone

    def get_delta_weight(*args: Any, **options: Any) -> torch.Tensor:
        layer.get_base_layer = lambda: stand_in
        try:
            return plain(*args, **options)  # (out, in)
        finally:
            del layer.get_base_layer

    layer.get_delta_weight = get_delta_weight
