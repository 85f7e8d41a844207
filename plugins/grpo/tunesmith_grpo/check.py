"""What can be known about settings when a plan is made. Nothing heavy is imported."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from tunesmith import RecipeError
from tunesmith_grpo.settings import GrpoSettings
from tunesmith_transformers.online.check import check


def grpo(settings: GrpoSettings, folder: Path, device: str, evaluators: Sequence[str]) -> Iterator[str]:
    """What the optimizer will be.

    Raises:
        RecipeError, MissingError: a reward or the optimizer cannot be had, or settings do not go together.
    """
    if settings.loss_type == "cispo" and settings.epsilon_high is None:
        raise RecipeError(
            'loss_type = "cispo" bounds the ratio at epsilon_high, which is not set',
            fix="Set epsilon_high in [trainer], for example 5.0.",
        )
    yield from check(settings, folder, device, evaluators)
