"""What can be known about settings when a plan is made. Nothing heavy is imported."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from tunesmith import RecipeError
from tunesmith_sft import SftSettings
from tunesmith_transformers.training import optimizers
from tunesmith_transformers.training.best_checkpoint import Measures


def check(
    settings: SftSettings,
    folder: Path,
    device: str,
    evaluators: Sequence[str] | None = None,
    measures: Measures | None = None,
) -> Iterator[str]:
    """Refuse settings that do not go together, and say what the optimizer will be.

    Raises:
        RecipeError, MissingError: naming the setting.
    """
    if settings.loss == "dft" and settings.label_smoothing:
        raise RecipeError(
            "label_smoothing spreads a token's target over the vocabulary, and loss = 'dft' weighs that token alone",
            fix="Leave one of them out of [trainer].",
            setting=("label_smoothing",),
        )
    yield from optimizers.check(settings, folder, device, evaluators, measures)
