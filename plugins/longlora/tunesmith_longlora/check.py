"""What can be known about the settings without a model."""

from __future__ import annotations

from pathlib import Path

from tunesmith import RecipeError
from tunesmith_longlora import LongLoraSettings


def check(settings: LongLoraSettings, folder: Path) -> None:
    """A group can be halved.

    Raises:
        RecipeError: its size is odd.
    """
    if settings.group_size is not None and settings.group_size % 2:
        raise RecipeError(
            f"group_size = {settings.group_size} is odd: half of the heads are shifted by half a group",
            fix=f"Set group_size = {settings.group_size + 1} in [adapter].",
        )
