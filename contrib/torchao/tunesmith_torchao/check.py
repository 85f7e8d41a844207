"""What can be known of the settings without a model: what is wrong, what moves and what stays."""

from __future__ import annotations

from pathlib import Path

from tunesmith import RecipeError
from tunesmith_torchao import QatSettings


def qat(settings: QatSettings, folder: Path) -> tuple[str, ...]:
    """What moves and what stays.

    Raises:
        RecipeError: alpha without a rank.
    """
    if settings.alpha is not None and settings.rank is None:
        raise RecipeError(
            "alpha is set, but rank is not: without a rank every weight is trained and nothing is scaled",
            fix="Set rank in [adapter], or leave out alpha.",
        )
    if settings.rank is None:
        return (f"moves: every parameter, the layers seen in int4 in groups of {settings.group_size}; stays: nothing",)
    return (
        f"moves: updates of rank {settings.rank} inside int4 in groups of {settings.group_size}; stays: the base model",
    )
