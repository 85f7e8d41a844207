"""The space of a search: which keys of a recipe vary, and over what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from tunesmith.errors import RecipeError, nearest
from tunesmith.locate import KeyPath
from tunesmith.recipe import Recipe, dotted

KEYS = ("low", "high", "log", "step", "choices")


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included.

    Args:
        log: draw evenly over the logarithm.
        step: the distance of two values; None for any (1 for integers).
    """

    key: str
    low: float
    high: float
    log: bool = False
    step: float | None = None

    @property
    def integer(self) -> bool:
        """Whether only whole numbers are meant: both ends are written so."""
        return all(isinstance(value, int) for value in (self.low, self.high))

    @property
    def ends(self) -> tuple[Any, Any]:
        return self.low, self.high


@dataclass(frozen=True)
class Choice:
    """One of some values."""

    key: str
    values: tuple[Any, ...]

    @property
    def ends(self) -> tuple[Any, Any]:
        return self.values[0], self.values[-1]


Space = tuple[Range | Choice, ...]


def read_space(recipe: Recipe, table: Any) -> Space:
    """The checked table `[search.space]`: keys of the recipe, nested or dotted, with a range or choices each.

    Raises:
        RecipeError: with file and line.
    """
    place: KeyPath = ("search", "space")
    if not isinstance(table, Mapping) or not table:
        raise RecipeError(
            "[search.space] is missing: nothing says what shall vary",
            where=recipe.where("search"),
            fix="Write [search.space] and below it, for example, trainer.learning_rate = { low = 1e-5, high = 1e-3 }.",
        )
    found = tuple(_walk(recipe, table, (), place))
    for one in found:
        if one.key.partition(".")[0] in ("run", "search", "compare", "plugins", "preset"):
            raise RecipeError(
                f"{one.key} cannot be searched",
                where=recipe.where(*place, *one.key.split(".")),
                fix="Name keys of the model, data, adapter, quantizer, trainer, or of a stage.",
            )
    return found


def _walk(recipe: Recipe, table: Mapping[str, Any], path: KeyPath, place: KeyPath) -> list[Range | Choice]:
    found: list[Range | Choice] = []
    for name, value in table.items():
        here = (*path, name)
        if isinstance(value, Mapping) and not {"low", "high", "choices"} & value.keys():
            found.extend(_walk(recipe, value, here, place))
        else:
            found.append(_one(recipe, dotted(here), value, (*place, *here)))
    return found


def _one(recipe: Recipe, key: str, value: Any, place: KeyPath) -> Range | Choice:
    def wrong(what: str, fix: str) -> RecipeError:
        return RecipeError(f"search.space.{key}: {what}", where=recipe.where(*place), fix=fix)

    written = "Write { low = 1e-5, high = 1e-3, log = true } or { choices = [4, 8, 16] }."
    if not isinstance(value, Mapping):
        raise wrong("a range or choices are needed", written)
    for name in value:
        if name not in KEYS:
            near = nearest(name, KEYS)
            raise wrong(f"unknown key {name!r}", f"Did you mean {near!r}?" if near else written)
    if "choices" in value:
        choices = value["choices"]
        if len(value) > 1 or not isinstance(choices, list) or len(choices) < 2:
            raise wrong("`choices` is a list of two or more values, and stands alone", written)
        return Choice(key, tuple(choices))
    low, high, step, log = value.get("low"), value.get("high"), value.get("step"), value.get("log", False)
    if not (_is_number(low) and _is_number(high) and low < high):
        raise wrong("`low` and `high` are numbers, the lower one first", written)
    if not isinstance(log, bool) or (log and (low <= 0 or step is not None)):
        raise wrong("`log` needs `low` above 0, and no `step`", written)
    if step is not None and not (_is_number(step) and 0 < step <= high - low):
        raise wrong("`step` is a number above 0, and no more than the range", written)
    if isinstance(low, int) and isinstance(high, int) and isinstance(step, float):
        raise wrong("`step` of a range of integers is an integer", written)
    return Range(key, low, high, log, step)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
