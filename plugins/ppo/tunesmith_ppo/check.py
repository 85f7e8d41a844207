"""What the plan can say of a recipe before any model is loaded. No torch here."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from tunesmith import RecipeError
from tunesmith_ppo.settings import PpoSettings
from tunesmith_transformers import optimizers
from tunesmith_transformers.settings import TrainingSettings


def check(settings: PpoSettings, folder: Path, device: str) -> Iterator[str]:
    """Refuse a reward function that is not there, and say what the optimizer will be.

    Raises:
        RecipeError, MissingError: naming what is wrong.
    """
    if settings.reward is not None:
        named, name = split_reference(settings.reward)
        if is_file(named):
            _check_file(folder / Path(named).expanduser(), name)
        elif named.partition(".")[0] not in sys.modules and find_spec(named.partition(".")[0]) is None:
            raise RecipeError(
                f"reward = {settings.reward!r}: there is no module {named.partition('.')[0]!r} here",
                fix="Install it, or name a file beside the recipe: reward = './reward.py:score'.",
            )
    yield from optimizers.check(shared(settings), folder, device)


def shared(settings: PpoSettings) -> TrainingSettings:
    """The settings that the optimizers of Transformers take."""
    return TrainingSettings(
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        optim=settings.optim,
        optim_unavailable=settings.optim_unavailable,
    )


def split_reference(reference: str) -> tuple[str, str]:
    """The module or file, and the name in it.

    Raises:
        RecipeError: it does not read `module:callable`.
    """
    named, colon, name = reference.rpartition(":")
    if not colon or not named or not name.isidentifier():
        raise RecipeError(
            f"reward = {reference!r} does not name a function",
            fix="Write 'module:callable', or './file.py:callable' for a file beside the recipe.",
        )
    return named, name


def is_file(named: str) -> bool:
    """Whether the first part of a reference is a file and not a module."""
    return named.endswith(".py")


def _check_file(path: Path, name: str) -> None:
    if not path.is_file():
        raise RecipeError(f"there is no file {path} with the reward function", fix="Mend `reward` in [trainer].")
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        raise RecipeError(
            f"the reward function's file cannot be read: {error}",
            where=f"{path}:{line}" if line else str(path),
            fix="Mend the file.",
        ) from error
    found = {getattr(node, "name", None) for node in tree.body}
    found |= {
        t.id for node in ast.walk(tree) if isinstance(node, ast.Assign) for t in node.targets if isinstance(t, ast.Name)
    }
    imported = {
        (alias.asname or alias.name)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }
    if name not in found | imported and "*" not in imported:
        functions = [node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
        raise RecipeError(
            f"{path.name} has no {name!r}",
            where=str(path),
            fix=f"It defines: {', '.join(functions) or 'no function'}.",
        )
