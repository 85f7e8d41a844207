"""Dense and packed weights: how many values a parameter stands for."""

from __future__ import annotations

import torch
from torch import nn

from tunesmith.dense import is_packed, sizes


class Codes(nn.Parameter):
    """A library's own class of parameter."""


def packed(layer: nn.Linear, codes: nn.Parameter) -> nn.Linear:
    layer.weight = codes
    return layer


def test_a_packed_weight_counts_for_its_layers_inputs_and_outputs() -> None:
    two_a_byte = torch.zeros(8 * 6 // 2, 1, dtype=torch.uint8)
    model = nn.Sequential(
        packed(nn.Linear(8, 6), nn.Parameter(two_a_byte, requires_grad=False)),
        packed(nn.Linear(8, 6, bias=False), Codes(two_a_byte.to(torch.bfloat16))),
        nn.Linear(8, 6, bias=False),
        nn.LayerNorm(6),
    )
    assert sizes(model) == {
        "0.weight": 48,
        "0.bias": 6,
        "1.weight": 48,
        "2.weight": 48,
        "3.weight": 6,
        "3.bias": 6,
    }
    assert [name for name, parameter in model.named_parameters() if is_packed(parameter)] == ["0.weight", "1.weight"]


def test_codes_outside_of_a_linear_layer_count_as_they_are() -> None:
    model = nn.Module()
    model.codes = nn.Parameter(torch.zeros(4, dtype=torch.uint8), requires_grad=False)
    assert sizes(model) == {"codes": 4}


def test_a_shared_parameter_counts_once() -> None:
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    model[1].weight = model[0].weight
    assert sum(sizes(model).values()) == 16
