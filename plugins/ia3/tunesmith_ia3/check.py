"""What can be said about the settings without a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunesmith_ia3 import Ia3Settings
from tunesmith_transformers.peft.stored import Shapes, check_targets
from tunesmith_transformers.peft.wording import layers, moves


def told(settings: Ia3Settings, folder: Path) -> tuple[str, ...]:
    """What moves, in words."""
    if settings.target_modules is None:
        return moves("a factor for each key, each value and each inner feature of the feed-forward")
    return moves(f"a factor for each feature of {layers(settings.target_modules)}")


def fits(settings: Ia3Settings, config: Mapping[str, Any] | None, head: str, shapes: Shapes = None) -> None:
    """Refuse targets that the model does not have.

    Raises:
        RecipeError: naming the target.
    """
    for setting in ("target_modules", "feedforward_modules"):
        check_targets(config, getattr(settings, setting) or (), shapes, setting)
