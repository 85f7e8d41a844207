"""What can be said about the settings without a model."""

from __future__ import annotations

from pathlib import Path

from tunesmith_adalora import AdaloraSettings
from tunesmith_transformers.peft.wording import layers, moves


def told(settings: AdaloraSettings, folder: Path) -> tuple[str, ...]:
    """What moves, in words."""
    ranks = f"rank {settings.init_rank} at first and {settings.target_rank} on average at last"
    return moves(f"updates of {layers(settings.target_modules)}, of {ranks}")
