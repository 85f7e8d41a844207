"""Memory that weights take, counted on the tensors that hold them."""

from __future__ import annotations

from typing import Any

from tunesmith_torchao.layers import QuantizedLinear


def stored_bits(tensor: Any) -> int:
    """Bits of a tensor; of a quantized one its codes, scales and zero points."""
    if hasattr(tensor, "__tensor_flatten__"):
        names, _ = tensor.__tensor_flatten__()
        return sum(stored_bits(getattr(tensor, name)) for name in names)
    return 8 * tensor.numel() * tensor.element_size()


def measured(model: Any) -> dict[str, Any]:
    """What the weights of a model occupy, under the names that other quantizers' facts have too.

    Returns:
        `bits_a_parameter` over the quantized weights; `bits_a_parameter_of_the_model` over all parameters and
        buffers; `bytes` of the whole model; `parameters`, `quantized_parameters` and `quantized_layers` as counts.
    """
    weights = [module.weight for module in model.modules() if isinstance(module, QuantizedLinear)]
    held = sum(weight.numel() for weight in weights)
    whole = sum(parameter.numel() for parameter in model.parameters())
    occupied = sum(stored_bits(tensor) for tensor in (*model.parameters(), *model.buffers()))
    return {
        "bits_a_parameter": sum(stored_bits(weight) for weight in weights) / held,
        "bits_a_parameter_of_the_model": occupied / whole,
        "bytes": occupied // 8,
        "parameters": whole,
        "quantized_parameters": held,
        "quantized_layers": len(weights),
    }
