"""Whether what is trained is held finely enough for its updates."""

from __future__ import annotations

from typing import Any

import torch

from tunesmith import Adapted, Context, RecipeError


def check_trained(adapted: Adapted, context: Context) -> None:
    """Warn of parameters that are trained in bfloat16, and refuse those in float16.

    A bfloat16 has 8 significant bits: next to a weight of 1 it knows no step below 0.004, so that the updates of a
    usual learning rate round to nothing. Gradients in float16 vanish without a scaler, which the trainers do not have.

    Raises:
        RecipeError: naming the first parameter in float16.
    """
    trained = adapted.trainable()
    if half := _of(trained, torch.float16):
        raise RecipeError(
            f"{half[0]} would be trained in float16, in which small gradients vanish",
            details=[f"{len(half)} of {len(trained)} trained tensors"],
            fix='Set dtype = "float32" in [model], or "bfloat16" where the device has it.',
        )
    if coarse := _of(trained, torch.bfloat16):
        context.reporter.warn(
            f"{len(coarse)} of {len(trained)} trained tensors are held in bfloat16, such as {coarse[0]}: updates much "
            'smaller than the weights are lost; dtype = "float32" in [model] keeps them'
        )


def _of(parameters: dict[str, Any], dtype: torch.dtype) -> list[str]:
    return [name for name, parameter in parameters.items() if parameter.dtype == dtype]
