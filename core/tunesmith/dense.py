"""What only dense weights allow, refused over quantized ones in one sentence."""

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
        # a library's own class of parameter may call its codes a floating-point number, or integers
        if (names is None or name in names)
        and (type(parameter).__name__ != "Parameter" or not parameter.is_floating_point())
    ]
    if names is None or packed:
        which = packed[0] if packed else "the base"
        raise RecipeError(
            f"{what} needs dense weights, and {which} is quantized ({quantized})",
            fix="Leave out [quantizer], or train an adapter that stands beside the base, such as lora.",
        )
