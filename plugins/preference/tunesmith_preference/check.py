"""What can be known about settings when a plan is made. Nothing heavy is imported."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from tunesmith import RecipeError
from tunesmith_preference.settings import DpoSettings
from tunesmith_transformers.training import optimizers
from tunesmith_transformers.training.best_checkpoint import Measures


def dpo(
    settings: DpoSettings,
    folder: Path,
    device: str,
    evaluators: Sequence[str],
    measures: Measures | None = None,
) -> Iterator[str]:
    """What the optimizer will be, and what can be measured between steps.

    Raises:
        RecipeError: losses, weights and smoothing do not go together, or the optimizer cannot be had.
        MissingError: the optimizer's package is not installed.
    """
    names = (settings.loss_type,) if isinstance(settings.loss_type, str) else settings.loss_type
    if settings.loss_weights and len(settings.loss_weights) != len(names):
        raise RecipeError(
            f"{len(settings.loss_weights)} loss_weights, but {len(names)} losses in loss_type",
            fix="Give one weight for each loss, in the same order.",
        )
    if "exo_pair" in names and not settings.label_smoothing:
        raise RecipeError(
            'loss_type = "exo_pair" takes the logarithm of label_smoothing, which is 0',
            fix="Set label_smoothing = 0.001 in [trainer].",
        )
    yield from optimizers.check(settings, folder, device, evaluators, measures)
