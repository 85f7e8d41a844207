"""Schedules of the learning rate by name, and how each comes to rest at a rate above 0. No torch here."""

from __future__ import annotations

from typing import Any, Protocol

from tunesmith import RecipeError
from tunesmith.errors import nearest

WAVE = ("num_cycles",)
LOWEST = ("min_lr", "min_lr_rate")
#: Schedules that can be followed here, by Transformers' names, and the options that each reads.
SCHEDULES: dict[str, tuple[str, ...]] = {
    "linear": (),
    "cosine": WAVE,
    "cosine_with_restarts": WAVE,
    "polynomial": ("lr_end", "power"),
    "constant": (),
    "constant_with_warmup": (),
    "inverse_sqrt": ("timescale",),
    "cosine_with_min_lr": (*WAVE, *LOWEST),
    "cosine_warmup_with_min_lr": (*WAVE, *LOWEST, "warmup_lr_rate"),
    "warmup_stable_decay": (
        "num_decay_steps",
        "num_stable_steps",
        "warmup_type",
        "decay_type",
        "min_lr_ratio",
        *WAVE,
    ),
}
#: Those that cannot.
UNUSABLE = {"reduce_lr_on_plateau": "a loss on held-out rows", "greedy": "the loss of the steps"}
#: What a schedule that falls to 0 becomes where it shall come to rest above.
FLOORED = {"linear": "polynomial", "cosine": "cosine_with_min_lr"}
WITH_LOWEST = ("cosine_with_min_lr", "cosine_warmup_with_min_lr")


class Rates(Protocol):
    """The settings that say how the learning rate moves."""

    @property
    def learning_rate(self) -> float: ...
    @property
    def lr_scheduler_type(self) -> str: ...
    @property
    def min_learning_rate(self) -> float | None: ...


def chosen(settings: Rates, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
    """The schedule to follow, by Transformers' name, and its options.

    With `min_learning_rate` a linear or cosine schedule ends there instead of at 0.

    Args:
        options: `lr_scheduler_kwargs` of the recipe.
    """
    name, given = settings.lr_scheduler_type, dict(options or {})
    lowest = settings.min_learning_rate
    if lowest is None:
        return name, given
    name = FLOORED.get(name, name)
    if name == "polynomial":
        return name, {"lr_end": lowest, **({"power": 1.0} if settings.lr_scheduler_type == "linear" else {}), **given}
    if name == "warmup_stable_decay":
        return name, {"min_lr_ratio": lowest / settings.learning_rate, **given}
    return name, {"min_lr": lowest, **given}


def check(settings: Any) -> None:
    """Refuse a schedule that there is not, or that lacks what it needs.

    Args:
        settings: `Rates`, with `arguments` where the trainer has them.

    Raises:
        RecipeError: naming the setting.
    """
    name, lowest = settings.lr_scheduler_type, settings.min_learning_rate
    if name in UNUSABLE:
        raise RecipeError(
            f"lr_scheduler_type = {name!r} follows {UNUSABLE[name]}, which no schedule is told here",
            fix='Set lr_scheduler_type = "cosine" in [trainer].',
            setting=("lr_scheduler_type",),
        )
    if name not in SCHEDULES:
        near = nearest(name, list(SCHEDULES))
        raise RecipeError(
            f"there is no schedule {name!r} of the learning rate",
            fix=f"Did you mean {near!r}?" if near else f"There are: {', '.join(SCHEDULES)}.",
            setting=("lr_scheduler_type",),
        )
    if name == "constant" and settings.warmup_steps:
        raise RecipeError(
            f"warmup_steps = {settings.warmup_steps:g} has no effect: lr_scheduler_type = 'constant' has no warm-up",
            fix='Set lr_scheduler_type = "constant_with_warmup" in [trainer].',
            setting=("warmup_steps",),
        )
    options = settings.arguments.get("lr_scheduler_kwargs") or {}
    _check_options(name, options, lowest)
    if lowest is not None:
        _check_lowest(settings, options)


def _check_lowest(settings: Any, options: dict[str, Any]) -> None:
    name, lowest = settings.lr_scheduler_type, settings.min_learning_rate
    if name not in (*FLOORED, *WITH_LOWEST, "polynomial", "warmup_stable_decay"):
        raise RecipeError(
            f"min_learning_rate is set, and lr_scheduler_type = {name!r} comes to rest nowhere",
            fix='Set lr_scheduler_type to "linear" or "cosine", or leave min_learning_rate out.',
            setting=("min_learning_rate",),
        )
    if lowest >= settings.learning_rate:
        raise RecipeError(
            f"min_learning_rate = {lowest:g} is not below learning_rate = {settings.learning_rate:g}",
            fix="Set it below, or leave it out.",
            setting=("min_learning_rate",),
        )
    if twice := sorted({*LOWEST, "lr_end", "min_lr_ratio"} & set(options)):
        raise RecipeError(
            f"min_learning_rate and {twice[0]} in lr_scheduler_kwargs say the same",
            fix="Leave one of them out.",
            setting=("min_learning_rate",),
        )


def _check_options(name: str, options: Any, lowest: float | None) -> None:
    place = ("arguments", "lr_scheduler_kwargs")
    if not isinstance(options, dict):
        raise RecipeError(
            "lr_scheduler_kwargs must be a table", fix="For example lr_scheduler_kwargs = {power = 2.0}.", setting=place
        )
    known = SCHEDULES["cosine_with_min_lr"] if lowest is not None and name == "cosine" else SCHEDULES[name]
    for key in options:
        if key not in known:
            near = nearest(key, known)
            raise RecipeError(
                f"lr_scheduler_kwargs names {key!r}, which the schedule {name!r} does not read",
                fix=f"Did you mean {near!r}?" if near else f"It reads: {', '.join(known) or 'none'}.",
                setting=(*place, key),
            )
    if set(LOWEST) <= set(options):
        raise RecipeError(
            "min_lr and min_lr_rate in lr_scheduler_kwargs say the same", fix="Leave one of them out.", setting=place
        )
    if name in WITH_LOWEST and lowest is None and not set(LOWEST) & set(options):
        raise RecipeError(
            f"lr_scheduler_type = {name!r} does not know where to come to rest",
            fix="Set min_learning_rate in [trainer].",
            setting=("lr_scheduler_type",),
        )
    if name == "warmup_stable_decay" and "num_decay_steps" not in options:
        raise RecipeError(
            "lr_scheduler_type = 'warmup_stable_decay' does not know when to begin to fall",
            fix="Set lr_scheduler_kwargs = {num_decay_steps = 100} in [trainer.arguments].",
            setting=("lr_scheduler_type",),
        )
