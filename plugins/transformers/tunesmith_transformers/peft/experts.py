"""The weights of a mixture's experts that a model keeps as one tensor of three dimensions, and no linear layers."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

from tunesmith import RecipeError


def fused(model: Any) -> dict[str, Any]:
    """The fused weights (E, ., .) of an unadapted model, by full name; those of convolutions are none."""
    return {
        f"{place}.{name}": parameter
        for place, module in model.named_modules()
        for name, parameter in module.named_parameters(recurse=False)
        if parameter.dim() == 3 and not type(module).__module__.startswith("torch.")
    }


def last_parts(names: Any) -> list[str]:
    """Names of fused weights as a recipe writes them: without what tells the layers apart."""
    return sorted({".".join(name.split(".")[-2:]) for name in names})


def target_experts(model: Any, targets: tuple[str, ...]) -> dict[str, Any]:
    """The fused weights that `targets` means, by full name: last parts of names, or full names with `*` and `?`.

    Raises:
        RecipeError: a target is not in the model.
    """
    there = fused(model)
    found = {}
    for target in targets:
        matching = {n: p for n, p in there.items() if f".{n}".endswith(f".{target}") or fnmatchcase(n, target)}
        if not matching:
            known = ", ".join(last_parts(there)) or "none"
            raise RecipeError(
                f"the model has no fused weights called {target!r}",
                details=[f"fused weights of experts: {known}"],
                fix="Mend target_parameters in [adapter].",
            )
        found.update(matching)
    return found


def frozen_experts(model: Any) -> list[str]:
    """A note on weights that adapters of linear layers leave as they are; empty where there are none."""
    if not (names := last_parts(fused(model))):
        return []
    return [
        f"its experts' weights are fused ({', '.join(names)}): adapters on linear layers leave them frozen, and lora "
        "reaches them by target_parameters"
    ]
