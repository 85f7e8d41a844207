"""The table `[compare]` of a recipe, and `--adapter` of the command line, as checked entries."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from annotated_types import Gt

from tunesmith.errors import RecipeError, UsageError, nearest
from tunesmith.locate import KeyPath
from tunesmith.recipe import STAGE_KEYS, Recipe, check_settings
from tunesmith.spec import Settings

#: What the unadapted model is called in the table and the plot.
BASE = "base"
#: What an entry may change besides its adapter.
CHANGEABLE = tuple(key for key in STAGE_KEYS if key != "adapter")


@dataclass(frozen=True, kw_only=True)
class CompareSettings(Settings):
    """The table `[compare]`: which adapters are compared, and what is measured besides the recipe's own measures."""

    adapters: tuple[dict[str, Any], ...] = ()
    """The entries, `[[compare.adapters]]`: a table for `[adapter]`, with `name` and `set` if wanted."""
    steps: Annotated[int, Gt(0)] | None = None
    """Optimizer steps of each, as `trainer.max_steps`; left out, those of [trainer]."""
    general: dict[str, Any] | None = None
    """A loader of text from elsewhere, on which the loss of general ability is measured; left out, it is not."""
    measure: dict[str, Any] = field(default_factory=lambda: {"use": "perplexity"})
    """The evaluator of that text; its first measure counts."""


@dataclass(frozen=True)
class Entry:
    """One adapter to compare.

    Args:
        table: what stands in `[adapter]`.
        changes: other keys of the recipe that differ, as a partial recipe.
        place: where it stands in the recipe; empty for one from the command line.
        origin: what errors name instead, for one from the command line.
    """

    name: str
    table: Mapping[str, Any]
    changes: Mapping[str, Any]
    place: KeyPath = ()
    origin: str = ""

    def where(self, recipe: Recipe, *path: str | int) -> str:
        """`file:line` of a key of this entry, or the option it came from."""
        return self.origin or recipe.where(*self.place, *path)


def read_settings(recipe: Recipe) -> CompareSettings:
    """The checked table `[compare]`; its defaults when the recipe has none.

    Raises:
        RecipeError: with file and line.
    """
    table = recipe.tree.get("compare", {})
    if not isinstance(table, dict):
        raise RecipeError(
            "[compare] must be a table", where=recipe.where("compare"), fix="Write [compare] and its keys below it."
        )
    return check_settings(CompareSettings, table, recipe, ("compare",))


def entries(recipe: Recipe, settings: CompareSettings, options: Sequence[str], only: Sequence[str]) -> list[Entry]:
    """The entries of the recipe, or those of `--adapter` when there are any; of these the ones named by `only`.

    Raises:
        RecipeError: an entry is wrong, has the name of the unadapted model, or two have one name.
        UsageError: an option is wrong, there are no entries, or `only` names none of them.
    """
    if options:
        found = [_from_option(text) for text in options]
    else:
        found = [_from_table(recipe, table, index) for index, table in enumerate(settings.adapters)]
    if not found:
        raise UsageError(
            "nothing says which adapters to compare",
            fix='Name them, as in --adapter lora --adapter "lora rank=4", or write [[compare.adapters]] in the recipe.',
        )
    seen: set[str] = set()
    for entry in found:
        if entry.name == BASE:
            raise RecipeError(
                f"an adapter to compare cannot be called {BASE!r}: the model without an adapter is",
                where=entry.where(recipe, "name"),
                fix='Give it another name = "...".',
            )
        if entry.name in seen:
            raise RecipeError(
                f"two adapters to compare are called {entry.name!r}",
                where=entry.where(recipe, "name"),
                fix='Give one of them another name = "...".',
            )
        seen.add(entry.name)
    for name in only:
        if name not in seen:
            near = nearest(name, sorted(seen))
            raise UsageError(
                f"there is no adapter {name!r} to compare",
                fix=f"Did you mean {near!r}?" if near else f"There are: {', '.join(e.name for e in found)}.",
            )
    return [entry for entry in found if not only or entry.name in only]


def _from_table(recipe: Recipe, table: Mapping[str, Any], index: int) -> Entry:
    place: KeyPath = ("compare", "adapters", index)
    rest = dict(table)
    name, changes = rest.pop("name", None), rest.pop("set", {})
    if not isinstance(rest.get("use"), str):
        raise RecipeError(
            f'compare.adapters.{index} needs use = "NAME"', where=recipe.where(*place), fix="Name the adapter."
        )
    if name is not None and not (isinstance(name, str) and name.strip()):
        raise RecipeError(
            f"compare.adapters.{index}.name must be text", where=recipe.where(*place, "name"), fix='As in name = "r4".'
        )
    if not isinstance(changes, dict):
        raise RecipeError(
            f"compare.adapters.{index}.set must be a table",
            where=recipe.where(*place, "set"),
            fix="As in set.trainer.learning_rate = 1e-2.",
        )
    for key in changes:
        if key not in CHANGEABLE:
            near = nearest(key, CHANGEABLE)
            raise RecipeError(
                f"unknown table {key!r} in compare.adapters.{index}.set",
                where=recipe.where(*place, "set", key),
                fix=f"Did you mean {near!r}?" if near else f"It may change: {', '.join(CHANGEABLE)}.",
            )
    return Entry(name or _named(rest, changes), rest, changes, place)


def _from_option(text: str) -> Entry:
    """An entry as one writes it on a command line: `lora rank=4 trainer.learning_rate=1e-3`."""
    from tunesmith.assign import assign

    try:
        use, *pairs = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"--adapter {text!r}: {error}", fix='Example: --adapter "lora rank=4"') from error
    scratch = Recipe({"adapter": {"use": use}})
    for pair in pairs:
        key = pair.partition("=")[0]
        try:
            assign(scratch, pair if key.split(".")[0] in CHANGEABLE and "." in key else f"adapter.{pair}")
        except UsageError as error:
            raise UsageError(
                f"--adapter {text!r}: {pair!r} does not read KEY=VALUE", fix='Example: --adapter "lora rank=4"'
            ) from error
    table = scratch.tree.pop("adapter")
    name = table.pop("name", " ".join([use, *pairs]))
    return Entry(str(name), table, scratch.tree, origin=f"--adapter {shlex.quote(text)}")


def _named(table: Mapping[str, Any], changes: Mapping[str, Any]) -> str:
    """What an entry is called that has no name: its adapter and the settings that stand beside it."""
    settings = {key: value for key, value in table.items() if key != "use"}
    shown = [f"{key}={_shown(value)}" for key, value in (*settings.items(), *_leaves(changes))]
    return " ".join([table["use"], *shown])


def _leaves(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in table.items():
        found.extend(_leaves(value, f"{prefix}{key}.") if isinstance(value, Mapping) else [(f"{prefix}{key}", value)])
    return found


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)
