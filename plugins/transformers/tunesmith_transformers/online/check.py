"""What the plan can say of rewards before any model is loaded. No torch here."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tunesmith import RecipeError
from tunesmith.errors import nearest
from tunesmith_transformers.online.settings import OnlineSettings, ScoreSettings
from tunesmith_transformers.training import best_checkpoint as best
from tunesmith_transformers.training import limits, optimizers
from tunesmith_transformers.training.settings import TrainingSettings

MODEL = "model"
#: Rewards that need no function, and the settings that only they read.
NAMED = {
    "exact-answer": ("answer_column", "answer_marker"),
    "format": ("format_pattern",),
    "length": ("length_min", "length_max", "length_slack"),
    MODEL: (),
}


def check(
    settings: OnlineSettings,
    folder: Path,
    device: str,
    evaluators: Sequence[str],
    measures: best.Measures | None = None,
) -> Iterator[str]:
    """Refuse a reward that is not there or lacks a setting, and say what the optimizer will be.

    Raises:
        RecipeError, MissingError: naming what is wrong.
    """
    check_scores(settings, folder)
    best.check(settings, evaluators, own=("reward",), measures=measures)
    best.check_saving(settings)
    yield from optimizers.check_optimizer(shared(settings), device)


def fits(settings: OnlineSettings, configs: Mapping[str, Any]) -> None:
    """Refuse rows that are longer than the policy takes, and a reward model that is not there or not named.

    Raises:
        RecipeError: naming what is wrong.
    """
    limits.of_first(settings, configs)
    check_model(settings, "reward" in configs)


def check_model(settings: ScoreSettings, there: bool) -> None:
    """Refuse scores without anything that gives them, and a reward model beside what is named.

    Args:
        there: whether the role `reward` has a model.

    Raises:
        RecipeError: there is none, or two that are not added.
    """
    names = reward_names(settings) or ((MODEL,) if there else ())
    if not names or (not there and MODEL in names):
        raise RecipeError(
            "there is no reward model" if names else "there is no reward",
            fix="Name a reward model in [models.reward], or set `reward` in [trainer], for example to a function.",
        )
    if there and MODEL not in names:
        raise RecipeError(
            "there are two rewards: a model, and what `reward` in [trainer] names",
            fix='Leave one of them out, or add "model" to the list: reward = ["model", ...].',
            setting=("reward",),
        )


def check_scores(settings: ScoreSettings, folder: Path) -> None:
    """Refuse a reward that is not there or lacks a setting.

    Raises:
        RecipeError: naming what is wrong.
    """
    names = reward_names(settings)
    for reference in names:
        if reference not in NAMED:
            _check_function(reference, folder)
    _check_lists(settings, names)
    _check_named(settings, names)


def shared(settings: OnlineSettings) -> TrainingSettings:
    """The settings that the optimizers of Transformers take."""
    return TrainingSettings(
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        optim=settings.optim,
        optim_unavailable=settings.optim_unavailable,
        lr_scheduler_type=settings.lr_scheduler_type,
        min_learning_rate=settings.min_learning_rate,
        warmup_steps=settings.warmup_steps,
    )


def reward_names(settings: ScoreSettings) -> tuple[str, ...]:
    """The entries of `reward`; none where it is left out."""
    if settings.reward is None:
        return ()
    return (settings.reward,) if isinstance(settings.reward, str) else settings.reward


def split_reference(reference: str) -> tuple[str, str]:
    """The module or file, and the name in it.

    Raises:
        RecipeError: it does not read `module:callable`.
    """
    named, colon, name = reference.rpartition(":")
    if not colon or not named or not name.isidentifier():
        near = nearest(reference, list(NAMED))
        raise RecipeError(
            f"reward = {reference!r} does not name a function",
            details=[f"rewards without a function: {', '.join(NAMED)}"],
            fix=f"Did you mean {near!r}?"
            if near
            else "Write 'module:callable', or './file.py:callable' for a file beside the recipe.",
        )
    return named, name


def is_file(named: str) -> bool:
    """Whether the first part of a reference is a file and not a module."""
    return named.endswith(".py")


def _check_lists(settings: ScoreSettings, names: tuple[str, ...]) -> None:
    if settings.reward is not None and not names:
        raise RecipeError("reward = [] scores nothing", fix="Name a reward, or leave the key out.")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise RecipeError(f"reward names {twice[0]!r} twice", fix="Name it once, with its weight in reward_weights.")
    if settings.reward_weights and len(settings.reward_weights) != max(len(names), 1):
        raise RecipeError(
            f"{len(settings.reward_weights)} reward_weights, but {max(len(names), 1)} rewards",
            fix="Give one weight for each entry of reward, in the same order.",
        )


def _check_named(settings: ScoreSettings, names: tuple[str, ...]) -> None:
    defaults = {item.name: item.default for item in fields(ScoreSettings)}
    for name, own in NAMED.items():
        given = [key for key in own if getattr(settings, key) != defaults[key]]
        if given and name not in names:
            raise RecipeError(
                f"{given[0]} is set, and only the reward {name!r} reads it, which is not named",
                fix=f'Add "{name}" to reward in [trainer], or leave {given[0]} out.',
            )
    if "format" in names:
        _check_pattern(settings.format_pattern)
    if "length" in names:
        if settings.length_max is None and not settings.length_min:
            raise RecipeError(
                'reward = "length" has no length to hold answers to',
                fix="Set length_max or length_min in [trainer], in tokens; both alike aim at one length.",
            )
        if settings.length_max is not None and settings.length_min > settings.length_max:
            raise RecipeError(
                f"length_min = {settings.length_min} is over length_max = {settings.length_max}", fix="Swap them."
            )


def _check_pattern(pattern: str | None) -> None:
    if not pattern:
        raise RecipeError(
            'reward = "format" has no pattern to look for',
            fix=r"Set format_pattern in [trainer], for example '####\s*-?\d+\s*$'.",
        )
    try:
        re.compile(pattern)
    except re.error as error:
        raise RecipeError(
            f"format_pattern = {pattern!r} is no regular expression: {error}", fix="Mend it in [trainer]."
        ) from error


def _check_function(reference: str, folder: Path) -> None:
    named, name = split_reference(reference)
    if is_file(named):
        _check_file(folder / Path(named).expanduser(), name)
    elif named.partition(".")[0] not in sys.modules and find_spec(named.partition(".")[0]) is None:
        raise RecipeError(
            f"reward = {reference!r}: there is no module {named.partition('.')[0]!r} here",
            fix="Install it, or name a file beside the recipe: reward = './reward.py:score'.",
        )


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
