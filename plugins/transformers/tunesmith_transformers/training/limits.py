"""How long a row may be for a model, by its configuration alone. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunesmith import RecipeError

#: What configurations call the positions of a model.
POSITIONS = ("max_position_embeddings", "n_positions")

Config = Mapping[str, Any] | None


def positions(config: Config) -> int | None:
    """Positions that a model takes, in tokens; None for no limit, or one that is not known."""
    for name in POSITIONS:
        if config and isinstance(found := config.get(name), int):
            return found
    return None


def check_length(wanted: int | None, limit: int | None) -> None:
    """Refuse a `max_length` over what the model takes.

    Raises:
        RecipeError: it is.
    """
    if wanted is not None and limit is not None and wanted > limit:
        raise RecipeError(
            f"max_length = {wanted}, but the model takes {limit} tokens",
            fix=f"Set max_length = {limit} or less in [trainer].",
            setting=("max_length",),
        )


def of_first(settings: Any, configs: Mapping[str, Config]) -> None:
    """Refuse rows that are longer than the first model takes.

    Raises:
        RecipeError: they are.
    """
    check_length(settings.max_length, positions(next(iter(configs.values()))))


def of_all(settings: Any, configs: Mapping[str, Config]) -> None:
    """Refuse rows that are longer than one of the models takes.

    Raises:
        RecipeError: they are.
    """
    limits = [limit for config in configs.values() if (limit := positions(config)) is not None]
    check_length(settings.max_length, min(limits, default=None))


def moved(config: Mapping[str, Any], limit: int) -> dict[str, Any]:
    """A configuration with another number of positions, where it has one."""
    return {**config, **{name: limit for name in POSITIONS if name in config}}
