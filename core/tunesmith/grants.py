"""What no recipe may hold: secrets, which would be copied into run folders, and leave to run a model's code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tunesmith.errors import RecipeError
from tunesmith.recipe import Recipe, dotted
from tunesmith.secrets import in_settings


def check_grants(recipe: Recipe) -> None:
    """Refuse a recipe that holds a secret, or that would let a model run code of its own.

    Raises:
        RecipeError: naming the key, without its value.
    """
    for path, what in in_settings(recipe.tree):
        raise RecipeError(
            f"{dotted(path)} holds {what}, and a recipe is copied into every run folder",
            where=_where(recipe, path),
            fix="Take it out, and set it in the environment: HF_TOKEN, WANDB_API_KEY, ... If it was ever shared with "
            "the recipe, make a new one.",
        )
    for path in _trusting(recipe.tree, ()):
        raise RecipeError(
            f"{dotted(path)}: a recipe cannot grant that code of a model is run",
            where=_where(recipe, path),
            fix="Take it out. Whoever runs the recipe decides, with --trust-remote-code OWNER/NAME@COMMIT.",
        )


def _trusting(node: Any, path: tuple[str | int, ...]) -> Iterator[tuple[str | int, ...]]:
    """The paths of keys called `trust_remote_code`."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        if key == "trust_remote_code":
            yield (*path, key)
        yield from _trusting(value, (*path, key))


def _where(recipe: Recipe, path: tuple[str | int, ...]) -> str:
    """The place of a key; of a `--set` without the value that it sets."""
    return recipe.where(*path).partition("=")[0]
