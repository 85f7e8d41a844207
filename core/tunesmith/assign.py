"""`--set KEY=VALUE`: one key of a recipe, from the command line."""

from __future__ import annotations

import re
from typing import Any

import tomli

from tunesmith.errors import UsageError
from tunesmith.recipe import Recipe, dotted

INDEX = re.compile(r"[0-9]+")


def assign(recipe: Recipe, assignment: str) -> None:
    """Apply one `KEY=VALUE`; the value is read as TOML, or as a plain string when it is not."""
    key, separator, text = assignment.partition("=")
    parts: list[str | int] = [int(part) if INDEX.fullmatch(part) else part for part in key.strip().split(".")]
    if not separator or not all(str(part) for part in parts):
        raise UsageError(f"--set {assignment!r} does not read KEY=VALUE", fix="Example: --set trainer.epochs=2")
    try:
        value = tomli.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        value = text
    node: Any = recipe.tree
    origin = f"--set {assignment}"
    for position, part in enumerate(parts[:-1]):
        if isinstance(node, list):
            if not isinstance(part, int) or part >= len(node):
                raise UsageError(f"--set {assignment}: there is no entry {part} in {dotted(parts[:position])}")
            node = node[part]
        elif isinstance(node, dict):
            if str(part) not in node:
                recipe.origins[tuple(parts[: position + 1])] = origin
            node = node.setdefault(str(part), {})
        else:
            raise UsageError(f"--set {assignment}: {dotted(parts[:position])} is a value, not a table")
    last = parts[-1]
    if isinstance(node, list) and isinstance(last, int) and last < len(node):
        node[last] = value
    elif isinstance(node, dict):
        node[str(last)] = value
    elif isinstance(node, list):
        raise UsageError(f"--set {assignment}: {dotted(parts[:-1])} has no entry {last!r}")
    else:
        raise UsageError(f"--set {assignment}: {dotted(parts[:-1])} is a value, not a table")
    recipe.origins[tuple(parts)] = origin
