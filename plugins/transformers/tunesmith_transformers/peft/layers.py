"""Linear layers of a model, whichever class holds them: GPT-2 and its kin keep theirs as `Conv1D`, transposed."""

from __future__ import annotations

from typing import Any


def is_transposed(layer: Any) -> bool:
    """Whether a layer is Transformers' `Conv1D`, whose weight is (in, out)."""
    from transformers.pytorch_utils import Conv1D

    return isinstance(layer, Conv1D)


def is_linear(module: Any) -> bool:
    """Whether a module is a linear layer."""
    from torch import nn

    return isinstance(module, nn.Linear) or is_transposed(module)


def sides(layer: Any) -> tuple[int, int]:
    """Inputs and outputs of a linear layer."""
    return (layer.nx, layer.nf) if is_transposed(layer) else (layer.in_features, layer.out_features)
