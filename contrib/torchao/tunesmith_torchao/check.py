"""What can be known of the settings without a model."""

from __future__ import annotations

from pathlib import Path

from tunesmith import RecipeError
from tunesmith_torchao import QatSettings


def qat(settings: QatSettings, folder: Path) -> None:
    """Refuse a scale of an update that is not there.

    Raises:
        RecipeError: alpha without a rank.
    """
    if settings.alpha is not None and settings.rank is None:
        raise RecipeError(
            "alpha is set, but rank is not: without a rank every weight is trained and nothing is scaled",
            fix="Set rank in [adapter], or leave out alpha.",
        )
