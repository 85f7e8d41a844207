"""What can be known about the settings without a model: what will move, and that a pattern is one."""

from __future__ import annotations

import re
from pathlib import Path

from tunesmith import RecipeError
from tunesmith_full import FullSettings, HeadSettings, LastLayersSettings, RegexSettings


def full(settings: FullSettings, folder: Path) -> tuple[str, ...]:
    """What moves, in words."""
    return ("moves: every parameter; stays: nothing",)


def head(settings: HeadSettings, folder: Path) -> tuple[str, ...]:
    """What moves, in words."""
    return ("moves: the output head, with the embeddings where these are tied to it; stays: everything else",)


def last_layers(settings: LastLayersSettings, folder: Path) -> tuple[str, ...]:
    """What moves, in words."""
    blocks = "the last block" if settings.layers == 1 else f"the last {settings.layers} blocks"
    rest = ", the final norm and the output head, with the embeddings where these are tied to it" * settings.head
    return (f"moves: {blocks}{rest}; stays: everything else",)


def pattern(settings: RegexSettings, folder: Path) -> tuple[str, ...]:
    """What moves, in words; the pattern must be a regular expression.

    Raises:
        RecipeError: it is not.
    """
    try:
        re.compile(settings.pattern)
    except re.error as error:
        raise RecipeError(f"pattern = {settings.pattern!r} is not a regular expression: {error}") from error
    return (f"moves: the parameters in whose name {settings.pattern!r} is found; stays: everything else",)
