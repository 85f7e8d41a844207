"""What can be known about the settings without a model."""

from __future__ import annotations

import re
from pathlib import Path

from tunesmith import RecipeError
from tunesmith_full import RegexSettings


def pattern(settings: RegexSettings, folder: Path) -> None:
    """The pattern must be a regular expression.

    Raises:
        RecipeError: it is not.
    """
    try:
        re.compile(settings.pattern)
    except re.error as error:
        raise RecipeError(f"pattern = {settings.pattern!r} is not a regular expression: {error}") from error
