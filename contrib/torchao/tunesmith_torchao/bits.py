"""Memory that weights take, counted on the tensors that hold them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def stored_bits(tensor: Any) -> int:
    """Bits of a tensor; of a quantized one its codes, scales and zero points."""
    if hasattr(tensor, "__tensor_flatten__"):
        names, _ = tensor.__tensor_flatten__()
        return sum(stored_bits(getattr(tensor, name)) for name in names)
    return 8 * tensor.numel() * tensor.element_size()


def bits_per_parameter(tensors: Iterable[Any]) -> float:
    """Mean over all parameters of some tensors."""
    held = list(tensors)
    return sum(stored_bits(tensor) for tensor in held) / sum(tensor.numel() for tensor in held)
