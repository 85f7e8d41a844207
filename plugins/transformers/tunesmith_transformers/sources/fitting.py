"""Whether settings fit a model, by what its source tells of it when a plan is made. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunesmith import Context
from tunesmith_transformers.loading.named_templates import check_folder
from tunesmith_transformers.sources.configuration import hub_folder, wheel_folder
from tunesmith_transformers.sources.experts import check_balance, frozen
from tunesmith_transformers.training.settings import ModelSettings

Config = Mapping[str, Any] | None
Shapes = Mapping[str, tuple[int, ...]] | None


def directory(settings: ModelSettings, config: Config, shapes: Shapes, context: Context) -> list[str]:
    """Refuse what a model folder does not have; what is to be said of it. Its own check reads the tokens.

    Raises:
        RecipeError: a balancing loss of a dense model.
    """
    check_balance(settings.router_aux_loss_coef, config)
    return frozen(config, shapes)


def wheel(settings: ModelSettings, config: Config, shapes: Shapes, context: Context) -> list[str]:
    """As `directory`; and the tokens of a named template are in the vocabulary of a wheel that was fetched before.

    Raises:
        RecipeError, DataError: they are not.
    """
    return _cached(settings, config, shapes, context, wheel_folder(settings, context))


def hub(settings: ModelSettings, config: Config, shapes: Shapes, context: Context) -> list[str]:
    """As `wheel`, of a hub model that was fetched before.

    Raises:
        RecipeError, DataError: they are not.
    """
    return _cached(settings, config, shapes, context, hub_folder(settings))


def _cached(
    settings: ModelSettings, config: Config, shapes: Shapes, context: Context, folder: Path | None
) -> list[str]:
    if folder is None:  # not here, or a GGUF file, whose header calls a mixture of Llama's kind llama too
        return []
    check_folder(settings.chat_template, settings.add_tokens, folder)
    return directory(settings, config, shapes, context)
