"""What can be said about the settings without a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunesmith_adalora import AdaloraSettings
from tunesmith_transformers.peft.fitting import check_rank_by
from tunesmith_transformers.peft.stored import Shapes
from tunesmith_transformers.peft.wording import layers, moves


def told(settings: AdaloraSettings, folder: Path) -> tuple[str, ...]:
    """What moves, in words."""
    ranks = f"rank {settings.init_rank} at first and {settings.target_rank} on average at last"
    return moves(f"updates of {layers(settings.target_modules)}, of {ranks}")


def fits(settings: AdaloraSettings, config: Mapping[str, Any] | None, head: str, shapes: Shapes = None) -> None:
    """Refuse targets that the model does not have, and a rank over a layer's size.

    Raises:
        RecipeError: naming the target or the layer.
    """
    check_rank_by(config, settings.target_modules, settings.init_rank, "init_rank", shapes=shapes)
