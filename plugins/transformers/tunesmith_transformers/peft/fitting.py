"""Whether an adapter fits a model, by its configuration alone. No torch and no PEFT here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tunesmith import RecipeError
from tunesmith_transformers.estimates.model_sizes import names_of, sizes_of
from tunesmith_transformers.peft import stored


def linear_of(config: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    """(in, out) of each linear layer of a block, by its name below the block; none for blocks of an unknown kind."""
    try:
        sizes = sizes_of(config, "causal-lm", 4.0)
    except (KeyError, TypeError, ValueError, ArithmeticError):  # loading says what is wrong with it
        return {}
    return dict(sizes.linear) if sizes else {}


def check_rank_by(
    config: Mapping[str, Any] | None,
    targets: str | Sequence[str],
    rank: int,
    setting: str = "rank",
    patterns: Iterable[str] = (),
    shapes: stored.Shapes = None,
) -> None:
    """Refuse a target that the model does not have, and a rank over the smaller side of a layer that is adapted.

    Args:
        targets: `all-linear`, or the last parts of names.
        patterns: of layers that have a rank of their own, which are left to the run.
        shapes: of the model's stored tensors, by name.

    Raises:
        RecipeError: naming the first target that is not there, or the first layer that is too small.
    """
    stored.check_targets(config, targets, shapes, "target_modules")
    linear = linear_of(config or {})
    if not linear:  # blocks of a kind that is not known: by what is stored of them
        linear = stored.sizes(config, targets, shapes)
        targets = "all-linear"
    own = {pattern.rpartition(".")[2] for pattern in patterns}
    if not linear or "*" in own:
        return
    for name in names_of(linear, targets):
        inputs, outputs = linear[name]
        if rank > min(inputs, outputs) and name.rpartition(".")[2] not in own:
            raise RecipeError(
                f"{setting} = {rank} is over the size of {name} ({inputs} x {outputs})",
                fix=f"Set {setting} = {min(inputs, outputs)} or less in [adapter], or leave that layer out of "
                "target_modules.",
                setting=(setting,),
            )


def trains_head(settings: Any, head: str) -> bool:
    """Whether a head that the role puts on the model is trained, which PEFT copies in the type that it has."""
    return head != "causal-lm"
