"""What is added to a frozen model: bottlenecks behind its projections, and trained gains behind its norms.

Each lives as a child of the layer whose output it changes, and a forward hook of that layer calls it. So the names
of the base stay as they were, a deep copy copies the hook with the module it belongs to, and whatever calls the
layer (a cached generation, a block that is computed a second time for the backward pass) passes through it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
}

#: The name of the child that an adapted layer gets.
CHILD = "tunesmith_bottleneck"


class Behind(nn.Module):
    """A module that changes the output of the layer that it is a child of; it can be switched off."""

    def __init__(self) -> None:
        super().__init__()
        self.active = True

    def attach(self, layer: nn.Module) -> None:
        """Become a child of `layer` and change its output from now on."""
        layer.add_module(CHILD, self)
        layer.register_forward_hook(self.after)

    def after(self, layer: nn.Module, arguments: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
        """The hook: what the layer gives, changed while active."""
        return self(output) if self.active else output


class Bottleneck(Behind):
    """h + scale up(dropout(activation(down(h)))).

    `down` starts as a truncated normal and `up` at zero, so the output is exactly the input before the first step.

    Args:
        width: the hidden size H, units.
        size: the bottleneck B, units.
        activation: a key of `ACTIVATIONS`.
        init_std: standard deviation of `down` at the start, cut off at two of them.
        like: a tensor on the device to live on. Weights are float32, also over a base in 16 or 4 bits, because
            small steps would be rounded away there (float64 over float64).
        generator: on the CPU, whatever the device, so that devices start with the same bits.
    """

    def __init__(
        self,
        width: int,
        size: int,
        *,
        activation: str,
        dropout: float,
        scale: float,
        init_std: float,
        like: torch.Tensor,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        place = {"device": like.device, "dtype": trained_dtype(like)}
        start = torch.empty(size, width, dtype=trained_dtype(like))  # (B, H)
        nn.init.trunc_normal_(start, std=init_std, a=-2 * init_std, b=2 * init_std, generator=generator)
        self.down = nn.utils.skip_init(nn.Linear, width, size, **place)
        self.up = nn.utils.skip_init(nn.Linear, size, width, **place)
        self.activation = ACTIVATIONS[activation]()
        self.dropout = nn.Dropout(dropout)
        self.scale = scale
        with torch.no_grad():
            self.down.weight.copy_(start)
            for tensor in (self.down.bias, self.up.weight, self.up.bias):
                tensor.zero_()

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """(..., H) to (..., H), in the dtype of the input."""
        inner = self.activation(self.down(hidden.to(self.down.weight.dtype)))  # (..., B)
        return hidden + (self.scale * self.up(self.dropout(inner))).to(hidden.dtype)  # (..., H)


class NormGain(Behind):
    """(1 + weight) h + bias behind a layer norm: the norm with other parameters, its own ones untouched.

    A norm that multiplies by g and adds b becomes one that multiplies by g (1 + weight) and adds
    b (1 + weight) + bias: as many parameters as the norm has, all of them zero at the start.

    Args:
        norm: a norm over H units with `weight` (H,), and `bias` (H,) or none.
    """

    def __init__(self, norm: Any) -> None:
        super().__init__()
        place = {"device": norm.weight.device, "dtype": trained_dtype(norm.weight)}
        self.weight = nn.Parameter(torch.zeros(norm.weight.shape, **place))
        self.bias: nn.Parameter | None = None
        if getattr(norm, "bias", None) is not None:
            self.bias = nn.Parameter(torch.zeros(norm.bias.shape, **place))

    def forward(self, normed: torch.Tensor) -> torch.Tensor:
        """(..., H) to (..., H), in the dtype of the input."""
        gained = normed.to(self.weight.dtype) * (1 + self.weight)  # (..., H)
        if self.bias is not None:
            gained = gained + self.bias
        return gained.to(normed.dtype)


def trained_dtype(tensor: torch.Tensor) -> torch.dtype:
    """float64 over float64, float32 over everything else."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32
