"""What can be said about the settings without a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunesmith import RecipeError
from tunesmith_lora import LoraSettings
from tunesmith_transformers.peft.fitting import check_rank_by
from tunesmith_transformers.peft.stored import Shapes, check_fused, check_modules, check_targets
from tunesmith_transformers.peft.wording import layers, moves


def told(settings: LoraSettings, folder: Path) -> tuple[str, ...]:
    """What moves, in words.

    Raises:
        RecipeError: settings exclude each other.
    """
    check_experts(settings)
    ranks = {settings.rank, *settings.rank_pattern.values()}
    rank = f"{settings.rank}" if len(ranks) == 1 else f"{min(ranks)} to {max(ranks)}"
    magnitude = ", with a magnitude for each output" * settings.use_dora
    whole = "".join(f", {name} in full" for name in settings.modules_to_save)
    experts = "".join(f", of every expert in {name}" for name in settings.target_parameters)
    targets = layers(settings.target_modules) or "no linear layer"
    return moves(f"updates of rank {rank} of {targets}{experts}{magnitude}{whole}")


def check_experts(settings: LoraSettings) -> None:
    """Refuse what PEFT cannot do on fused weights, which it adds the update to and never calls.

    Raises:
        RecipeError: naming the setting.
    """
    if not settings.target_parameters:
        return
    excluded = {
        "dropout": (settings.dropout, "dropout = 0"),
        "use_dora": (settings.use_dora, "use_dora = false"),
        "init": (settings.init not in ("default", "gaussian"), 'init = "default"'),
    }
    for name, (is_set, fix) in excluded.items():
        if is_set:
            raise RecipeError(
                f"target_parameters adds an update to fused weights of experts, which excludes {name}",
                fix=f"Set {fix} in [adapter], or leave target_parameters out.",
            )


def own(settings: LoraSettings, head: str) -> bool:
    """Modules that are trained in full, and heads, which PEFT copies as they are."""
    return bool(settings.modules_to_save) or head != "causal-lm"


def fits(settings: LoraSettings, config: Mapping[str, Any] | None, head: str, shapes: Shapes = None) -> None:
    """Refuse targets that the model does not have, and a rank over a layer's size.

    Raises:
        RecipeError: naming the target or the layer.
    """
    check_rank_by(config, settings.target_modules, settings.rank, patterns=settings.rank_pattern, shapes=shapes)
    for setting in ("rank_pattern", "alpha_pattern"):
        check_targets(config, getattr(settings, setting), shapes, setting)
    check_modules(config, settings.modules_to_save, shapes)
    check_fused(config, settings.target_parameters, shapes)
