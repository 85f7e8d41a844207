"""Weights as torchao holds them: int8 in its own tensor, int4 in one that packs two codes a byte.

torchao's packed int4 tensors are written for one kernel and device each, and none of them can be turned back into
floats, which a backward pass needs. So the codes, scales and zero points here are torchao's, and the packing is ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from tunesmith_transformers.loading.model import quiet

quiet()  # torchao reports the kernels of other devices when it is imported

from torchao.quantization import (  # noqa: E402
    Int8WeightOnlyConfig,
    MappingType,
    PerGroup,
    PerRow,
    choose_qparams_affine,
    dequantize_affine,
    quantize_,
    quantize_affine,
)
from torchao.utils import TorchAOBaseTensor  # noqa: E402

LOWEST, HIGHEST = -8, 7


def int4_codes(weight: torch.Tensor, group: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Codes, scales and zero points of asymmetric 4-bit integers, so that w is about scale * (code - zero point).

    Args:
        weight: (out, in).
        group: weights along a row that share a scale; divides `in`.

    Returns:
        int8 codes from -8 to 7 (out, in), scales in the weight's dtype and int8 zero points (out, in / group).
    """
    block = (1, group)
    scale, zero = choose_qparams_affine(
        weight,
        MappingType.ASYMMETRIC,
        block,
        torch.int8,
        quant_min=LOWEST,
        quant_max=HIGHEST,
        zero_point_dtype=torch.int8,
    )
    shape = (weight.shape[0], weight.shape[1] // group)
    scale, zero = scale.reshape(shape), zero.reshape(shape)
    codes = quantize_affine(weight, block, scale, zero, torch.int8, LOWEST, HIGHEST)
    return codes, scale, zero


def int4_dense(codes: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """What the codes stand for, (out, in) in `dtype`."""
    block = (1, codes.shape[1] // scale.shape[1])
    return dequantize_affine(codes, block, scale, zero, torch.int8, LOWEST, HIGHEST, output_dtype=dtype)


class PackedInt4Tensor(TorchAOBaseTensor):
    """An (out, in) weight in asymmetric 4-bit integers.

    Args:
        qdata: uint8 (out, in / 2): codes plus 8, the first of each pair in the low bits.
        scale: (out, in / group), in the weight's dtype.
        zero_point: int8 (out, in / group).
        dtype: of what `dequantize` gives.
    """

    tensor_data_names = ["qdata", "scale", "zero_point"]  # noqa: RUF012
    tensor_attribute_names = ["dtype"]  # noqa: RUF012

    def __new__(
        cls, qdata: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor, dtype: torch.dtype
    ) -> PackedInt4Tensor:
        shape = (qdata.shape[0], 2 * qdata.shape[1])
        return torch.Tensor._make_wrapper_subclass(cls, shape, device=qdata.device, dtype=dtype)

    def __init__(self, qdata: torch.Tensor, scale: torch.Tensor, zero_point: torch.Tensor, dtype: torch.dtype) -> None:
        super().__init__()
        self.qdata = qdata
        self.scale = scale
        self.zero_point = zero_point

    @classmethod
    def from_dense(cls, weight: torch.Tensor, group: int) -> PackedInt4Tensor:
        """Quantize an (out, in) weight; `group` is even and divides `in`."""
        codes, scale, zero = int4_codes(weight, group)
        unsigned = (codes - LOWEST).to(torch.uint8)
        return cls(unsigned[:, 0::2] | (unsigned[:, 1::2] << 4), scale, zero, weight.dtype)

    def dequantize(self) -> torch.Tensor:
        """The dense weight (out, in)."""
        pairs = torch.stack((self.qdata & 0xF, self.qdata >> 4), dim=-1)  # (out, in / 2, 2)
        codes = pairs.reshape(self.shape).to(torch.int8) + LOWEST  # (out, in)
        return int4_dense(codes, self.scale, self.zero_point, self.dtype)


@PackedInt4Tensor.implements([torch.ops.aten.add.Tensor, torch.ops.aten.mul.Tensor, torch.ops.aten.t.default])
def _computed(func: Callable[..., Any], types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
    """What is computed from the weight is dense (DoRA adds its update to it)."""
    dense = [value.dequantize() if isinstance(value, PackedInt4Tensor) else value for value in args]
    return func(*dense, **kwargs)


@PackedInt4Tensor.implements_torch_function(torch.nn.functional.linear)
def _linear(func: Callable[..., Any], types: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> torch.Tensor:
    """A product outside `QuantizedLinear`, of a layer that torch built itself."""
    x, weight, *bias = args
    return func(x, weight.dequantize(), *bias, **kwargs)


def int4_tensor(weight: torch.Tensor, group: int | None) -> torch.Tensor:
    """An (out, in) weight in 4 bits, a whole row a group if `group` is None."""
    return PackedInt4Tensor.from_dense(weight, group or weight.shape[1])


def int8_tensor(weight: torch.Tensor, group: int | None) -> torch.Tensor:
    """An (out, in) weight in torchao's symmetric 8-bit integers, a whole row a group if `group` is None."""
    layer = torch.nn.utils.skip_init(torch.nn.Linear, weight.shape[1], weight.shape[0], bias=False, device="meta")
    layer.weight = torch.nn.Parameter(weight, requires_grad=False)
    granularity = PerGroup(group) if group else PerRow()
    quantize_(layer, Int8WeightOnlyConfig(granularity=granularity, set_inductor_config=False))
    return layer.weight.data
