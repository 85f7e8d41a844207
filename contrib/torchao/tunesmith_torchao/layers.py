"""Linear layers over quantized weights: frozen ones, and ones that train what the quantizer will make of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from tunesmith_torchao.tensors import int4_codes, int4_dense


class _Product(torch.autograd.Function):
    """x W^T with a frozen quantized W, which is dequantized again for the backward pass.

    torch's own product would keep every layer's dense weight until then: as much memory as no quantization at all.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: Any) -> torch.Tensor:
        ctx.weight = weight
        return functional.linear(x, weight.dequantize().to(x.dtype))  # (..., out)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradient @ ctx.weight.dequantize().to(gradient.dtype), None  # (..., in)


class QuantizedLinear(nn.Linear):
    """A linear layer whose frozen weight is one of torchao's tensors."""

    @classmethod
    def of(cls, layer: nn.Linear, quantize: Callable[[torch.Tensor], torch.Tensor]) -> QuantizedLinear:
        """The layer with its weight quantized; the bias stays as it is."""
        made = cls(layer.in_features, layer.out_features, bias=False, device="meta")
        made.weight = nn.Parameter(quantize(layer.weight.detach()), requires_grad=False)
        made.bias = layer.bias
        return made.train(layer.training)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(..., in) to (..., out)."""
        product = _Product.apply(input, self.weight)
        return product if self.bias is None else product + self.bias


class _Rounded(torch.autograd.Function):
    """The weight as int4 makes it; the gradient passes as if nothing had been rounded (Bengio et al. 2013)."""

    @staticmethod
    def forward(ctx: Any, weight: torch.Tensor, group: int) -> torch.Tensor:
        return int4_dense(*int4_codes(weight, group), weight.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradient, None


class FakeQuantizedLinear(nn.Linear):
    """A linear layer with dense weights that computes with their int4 values.

    With a rank r the weight is W + scale B A inside the quantizer, A (r, in) uniform as torch's linear layers and
    B (out, r) zero at the start, so that one int4 matrix holds both (LR-QAT: Bondarenko et al. 2024).

    Args:
        layer: the dense layer, whose weight and bias are taken over.
        group: weights along a row that share a scale.
        generator: on the CPU, for A.
    """

    def __init__(
        self, layer: nn.Linear, group: int, rank: int | None, alpha: float, generator: torch.Generator
    ) -> None:
        super().__init__(layer.in_features, layer.out_features, bias=False, device="meta")
        self.weight = layer.weight
        self.bias = layer.bias
        self.group = group
        self.active = True
        self.low_rank_a: nn.Parameter | None = None
        self.low_rank_b: nn.Parameter | None = None
        self.scale = alpha / (rank or 1)
        if rank:
            like = {"device": layer.weight.device, "dtype": torch.float32}
            start = torch.empty(rank, layer.in_features)
            nn.init.kaiming_uniform_(start, a=math.sqrt(5), generator=generator)
            self.low_rank_a = nn.Parameter(start.to(**like))
            self.low_rank_b = nn.Parameter(torch.zeros(layer.out_features, rank, **like))
        self.train(layer.training)

    def latent(self) -> torch.Tensor:
        """The dense weight that is rounded, (out, in)."""
        if self.low_rank_a is None or self.low_rank_b is None:
            return self.weight
        return self.weight + (self.scale * (self.low_rank_b @ self.low_rank_a)).to(self.weight.dtype)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(..., in) to (..., out)."""
        weight = _Rounded.apply(self.latent(), self.group) if self.active else self.weight
        return functional.linear(input, weight, self.bias)

    def plain(self) -> nn.Linear:
        """An ordinary layer with the int4 values as its weight; quantizing it again changes nothing."""
        made = nn.Linear(self.in_features, self.out_features, bias=False, device="meta")
        with torch.no_grad():
            made.weight = nn.Parameter(_Rounded.apply(self.latent(), self.group), requires_grad=False)
        made.bias = self.bias
        return made.train(self.training)


def replace(model: nn.Module, name: str, layer: nn.Module) -> None:
    """Put `layer` where the module called `name` is."""
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, layer)
