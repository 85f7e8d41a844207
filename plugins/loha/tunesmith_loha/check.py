"""What can be said about the settings without a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunesmith_loha import LohaSettings, LokrSettings
from tunesmith_transformers.peft.fitting import check_rank_by
from tunesmith_transformers.peft.stored import Shapes
from tunesmith_transformers.peft.wording import layers, moves


def loha(settings: LohaSettings, folder: Path) -> tuple[str, ...]:
    """What moves, in words."""
    return moves(f"two products of rank {settings.rank} for each of {layers(settings.target_modules)}")


def lokr(settings: LokrSettings, folder: Path) -> tuple[str, ...]:
    """What moves, in words."""
    return moves(f"two Kronecker factors, of rank {settings.rank}, for each of {layers(settings.target_modules)}")


def fits(
    settings: LohaSettings | LokrSettings, config: Mapping[str, Any] | None, head: str, shapes: Shapes = None
) -> None:
    """Refuse targets that the model does not have, and a rank over a layer's size.

    Raises:
        RecipeError: naming the target or the layer.
    """
    check_rank_by(config, settings.target_modules, settings.rank, shapes=shapes)
