"""What can be known about the settings without a model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunesmith import RecipeError
from tunesmith_soft_prompts.settings import MultitaskPromptSettings, PrefixSettings, PromptSettings, PTuningSettings
from tunesmith_transformers.peft.wording import moves
from tunesmith_transformers.training.limits import moved, positions


def prompt(settings: PromptSettings, folder: Path) -> tuple[str, ...]:
    """`init_text` belongs to `init = "text"`.

    Raises:
        RecipeError: one is there without the other.
    """
    _text(settings.init, settings.init_text)
    return moves(f"{settings.virtual_tokens} virtual tokens in front of every row")


def multitask_prompt(settings: MultitaskPromptSettings, folder: Path) -> tuple[str, ...]:
    """As `prompt`; and no task is named twice.

    Raises:
        RecipeError: settings that contradict each other.
    """
    _text(settings.init, settings.init_text)
    twice = sorted({task for task in settings.tasks if settings.tasks.count(task) > 1})
    if twice:
        raise RecipeError(f"tasks names {', '.join(twice)} twice", fix="Name each task once in [adapter].")
    return moves(
        f"{settings.virtual_tokens} virtual tokens in front of every row, and a matrix of rank {settings.rank} for "
        f"each of {len(settings.tasks)} tasks"
    )


def prefix(settings: PrefixSettings, folder: Path) -> tuple[str, ...]:
    """As `prompt`; and what belongs to the projection.

    Raises:
        RecipeError: settings that contradict each other.
    """
    _text(settings.init, settings.init_text)
    if settings.projection and settings.init == "text":
        raise RecipeError(
            'init = "text" sets the keys and values themselves, and projection = true computes them',
            fix="Leave one of the two out of [adapter].",
        )
    if settings.projection_size is not None and not settings.projection:
        raise RecipeError(
            "projection_size has no effect without a projection",
            fix="Set projection = true in [adapter], or leave projection_size out.",
        )
    network = ", and the network that computes them" * settings.projection
    return moves(f"keys and values of {settings.virtual_tokens} virtual tokens in every layer{network}")


def p_tuning(settings: PTuningSettings, folder: Path) -> tuple[str, ...]:
    """What belongs to the LSTM.

    Raises:
        RecipeError: a setting that would have no effect.
    """
    plain = PTuningSettings()
    given = (settings.lstm_layers, settings.lstm_dropout) != (plain.lstm_layers, plain.lstm_dropout)
    if settings.encoder == "mlp" and given:
        raise RecipeError(
            'lstm_layers and lstm_dropout have no effect with encoder = "mlp"',
            fix='Set encoder = "lstm" in [adapter], or leave them out.',
        )
    if settings.lstm_dropout and settings.lstm_layers == 1:
        raise RecipeError(
            "lstm_dropout is between two layers of the LSTM, but lstm_layers = 1",
            fix="Set lstm_layers = 2 or more in [adapter], or leave lstm_dropout out.",
        )
    return moves(f"the encoder of {settings.virtual_tokens} virtual tokens in front of every row")


def _text(init: str, text: str | None) -> None:
    if init == "text" and text is None:
        raise RecipeError('init = "text" needs a text', fix='Set init_text = "..." in [adapter].')
    if init != "text" and text is not None:
        raise RecipeError(
            f"init_text has no effect with init = {init!r}", fix='Set init = "text" in [adapter], or leave it out.'
        )


def fits(settings: Any, config: Mapping[str, Any] | None, head: str) -> dict[str, Any] | None:
    """The positions that the virtual tokens leave.

    Raises:
        RecipeError: they leave none, or the model is no language model.
    """
    check_head(head)
    limit = positions(config)
    if limit is None or config is None:
        return None
    if settings.virtual_tokens >= limit:
        raise no_room(settings.virtual_tokens, limit)
    return moved(config, limit - settings.virtual_tokens)


def check_head(head: str) -> None:
    """Refuse a model that is no language model.

    Raises:
        RecipeError: it is none.
    """
    if head != "causal-lm":
        raise RecipeError(
            f"virtual tokens go before the text of a language model; this model has a {head!r} head",
            fix="Choose another adapter, such as lora.",
        )


def no_room(tokens: int, limit: int) -> RecipeError:
    """The error for virtual tokens that fill all that a model takes."""
    return RecipeError(
        f"virtual_tokens = {tokens} leaves no room for a row: the model takes {limit} tokens",
        fix=f"Set virtual_tokens well below {limit} in [adapter].",
        setting=("virtual_tokens",),
    )
