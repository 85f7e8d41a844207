"""Dense and packed weights: what only dense ones allow, and how many values the packed ones stand for."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from tunesmith.errors import RecipeError


def refuse_packed(model: Any, quantized: str, what: str, names: Collection[str] | None) -> None:
    """Refuse `what` when one of the parameters `names` is packed; None means that any base will not do.

    Raises:
        RecipeError: naming the first such parameter.
    """
    packed = [
        name
        for name, parameter in model.named_parameters()
        if (names is None or name in names) and is_packed(parameter)
    ]
    if names is None or packed:
        which = packed[0] if packed else "the base"
        raise RecipeError(
            f"{what} needs dense weights, and {which} is quantized ({quantized})",
            fix="Leave out [quantizer], or train an adapter that stands beside the base, such as lora.",
        )


def is_packed(parameter: Any) -> bool:
    """Whether a parameter holds a quantizer's codes: such are of a library's own class, or integers."""
    return type(parameter).__name__ != "Parameter" or not parameter.is_floating_point()


def sizes(model: Any) -> dict[str, int]:
    """How many values each parameter stands for, by name.

    A packed tensor may hold several values in one of its own. A linear layer says how many there are: a value for each
    of its inputs and outputs.
    """
    return {name: _size(model, name, parameter) for name, parameter in model.named_parameters()}


def _size(model: Any, name: str, parameter: Any) -> int:
    if is_packed(parameter):
        above, _, last = name.rpartition(".")
        layer: Any = model.get_submodule(above) if hasattr(model, "get_submodule") else None
        if last == "weight" and hasattr(layer, "in_features") and hasattr(layer, "out_features"):
            return int(layer.in_features * layer.out_features)
    return int(parameter.numel())
