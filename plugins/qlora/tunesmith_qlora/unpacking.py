"""What unpacks a 4-bit weight, for `tunesmith plan --probe` to time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from bitsandbytes import functional

from tunesmith_qlora import FourBitSettings
from tunesmith_transformers.loading.model import choose_dtype


def nf4(settings: FourBitSettings, shape: tuple[int, int], device: str) -> Callable[[], torch.Tensor]:
    """Pack a random weight (out, in) as NormalFloat; the callable gives it back in the type that is computed in."""
    return _packed("nf4", settings, shape, device)


def fp4(settings: FourBitSettings, shape: tuple[int, int], device: str) -> Callable[[], torch.Tensor]:
    """The same as 4-bit floating point."""
    return _packed("fp4", settings, shape, device)


def _packed(kind: str, settings: FourBitSettings, shape: tuple[int, int], device: str) -> Callable[[], torch.Tensor]:
    weight = torch.randn(shape, dtype=choose_dtype(settings.compute_dtype, device), device=device)
    packed, state = functional.quantize_4bit(weight, quant_type=kind, compress_statistics=settings.double_quant)
    return lambda: functional.dequantize_4bit(packed, state)
