"""What can be known about the settings without a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunesmith import RecipeError
from tunesmith_longlora import LongLoraSettings
from tunesmith_transformers.peft.fitting import check_rank_by, linear_of
from tunesmith_transformers.peft.stored import Shapes
from tunesmith_transformers.peft.wording import layers, moves
from tunesmith_transformers.training.limits import moved, positions


def check(settings: LongLoraSettings, folder: Path) -> tuple[str, ...]:
    """What moves, in words; a group can be halved.

    Raises:
        RecipeError: its size is odd.
    """
    if settings.group_size is not None and settings.group_size % 2:
        raise RecipeError(
            f"group_size = {settings.group_size} is odd: half of the heads are shifted by half a group",
            fix=f"Set group_size = {settings.group_size + 1} in [adapter].",
        )
    targets = "the attention" if settings.target_modules == "attention" else layers(settings.target_modules)
    also = ", the norms" * settings.train_norms + ", the input embeddings" * settings.train_embeddings
    return moves(f"updates of rank {settings.rank} of {targets}{also}")


def own(settings: LongLoraSettings, head: str) -> bool:
    """Norms, embeddings and heads are trained as they are held."""
    return settings.train_norms or settings.train_embeddings or head != "causal-lm"


def fits(
    settings: LongLoraSettings, config: Mapping[str, Any] | None, head: str, shapes: Shapes = None
) -> dict[str, Any] | None:
    """Refuse targets that the model does not have, and a rank over a layer's size; the positions that are scaled.

    Raises:
        RecipeError: naming the target or the layer.
    """
    if config is None:
        return None
    targets: str | tuple[str, ...] = settings.target_modules
    if targets == "attention":
        targets = tuple(name for name in linear_of(config) if "attn" in name)
    check_rank_by(config, targets, settings.rank, shapes=shapes)
    limit = positions(config)
    return moved(config, round(limit * settings.scale)) if limit is not None else None
