"""What can be said about the settings without a model."""

from __future__ import annotations

from pathlib import Path

from tunesmith_lora import LoraSettings
from tunesmith_transformers.peft.wording import layers, moves


def told(settings: LoraSettings, folder: Path) -> tuple[str, ...]:
    """What moves, in words."""
    ranks = {settings.rank, *settings.rank_pattern.values()}
    rank = f"{settings.rank}" if len(ranks) == 1 else f"{min(ranks)} to {max(ranks)}"
    magnitude = ", with a magnitude for each output" * settings.use_dora
    whole = "".join(f", {name} in full" for name in settings.modules_to_save)
    return moves(f"updates of rank {rank} of {layers(settings.target_modules)}{magnitude}{whole}")
