"""What can be known about the settings without a model."""

from __future__ import annotations

from pathlib import Path

from tunesmith import RecipeError
from tunesmith_longlora import LongLoraSettings
from tunesmith_transformers.peft.wording import layers, moves


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
