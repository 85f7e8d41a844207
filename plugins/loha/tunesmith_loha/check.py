"""What can be said about the settings without a model."""

from __future__ import annotations

from pathlib import Path

from tunesmith_loha import LohaSettings, LokrSettings
from tunesmith_transformers.peft.wording import layers, moves


def loha(settings: LohaSettings, folder: Path) -> tuple[str, ...]:
    """What moves, in words."""
    return moves(f"two products of rank {settings.rank} for each of {layers(settings.target_modules)}")


def lokr(settings: LokrSettings, folder: Path) -> tuple[str, ...]:
    """What moves, in words."""
    return moves(f"two Kronecker factors, of rank {settings.rank}, for each of {layers(settings.target_modules)}")
