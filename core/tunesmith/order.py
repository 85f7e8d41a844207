"""The order in which the stages of a recipe are made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tunesmith.errors import RecipeError
from tunesmith.recipe import Recipe


def in_order(named: Mapping[str, Any], recipe: Recipe) -> list[str]:
    """Stage names so that each comes after those it starts from; the order of the file otherwise."""
    needs = {name: set(_references(table)) & set(named) for name, table in named.items()}
    ordered: list[str] = []
    while len(ordered) < len(named):
        ready = next((n for n in named if n not in ordered and needs[n] <= set(ordered)), None)
        if ready is None:
            circle = [name for name in named if name not in ordered]
            raise RecipeError(
                f"the stages {', '.join(circle)} start from each other"
                if len(circle) > 1
                else f"stage {circle[0]!r} starts from itself",
                where=recipe.where("stages", circle[0]),
                fix="A stage starts from a model, or `from` a stage that does not need it.",
            )
        ordered.append(ready)
    return ordered


def _references(table: Any) -> Iterator[str]:
    if isinstance(table, dict):
        for key, value in table.items():
            if key == "from" and isinstance(value, str):
                yield value
            else:
                yield from _references(value)
    elif isinstance(table, list):
        for item in table:
            yield from _references(item)
