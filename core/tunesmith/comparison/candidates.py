"""From the entries to checked plans: one ordinary recipe of one stage for each."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tunesmith.comparison.settings import BASE, CompareSettings, Entry
from tunesmith.errors import RecipeError
from tunesmith.fingerprints import deciding_files, fingerprint
from tunesmith.locate import KeyPath
from tunesmith.plan import SINGLE, Plan, StagePlan, Use, make_plan
from tunesmith.planner import Planner
from tunesmith.recipe import Recipe, dotted, expand
from tunesmith.registry import Registry

#: Settings of a trainer that say how long it trains, by the names of the field.
BUDGET = ("max_steps", "epochs")


@dataclass(frozen=True)
class Candidate:
    """One adapter with its plan. `slug` names its files and its run folder."""

    name: str
    slug: str
    plan: Plan
    changes: Mapping[str, Any]

    @property
    def stage(self) -> StagePlan:
        return self.plan.stages[0]


@dataclass(frozen=True)
class General:
    """How the loss of general ability is measured: on which text, by which evaluator."""

    data: Use
    measure: Use
    fingerprint: str


def candidates(
    recipe: Recipe, registry: Registry, settings: CompareSettings, entries: Sequence[Entry], folder: Path
) -> list[Candidate]:
    """A checked plan of every entry.

    Args:
        folder: where the runs are made.

    Raises:
        RecipeError: an entry is wrong, or would train longer than the others; with file and line.
        TunesmithError: as `make_plan`.
    """
    found: list[Candidate] = []
    for entry in entries:
        slug = _slug(entry.name, {candidate.slug for candidate in found})
        derived = derive(recipe, registry, settings, entry, folder, slug)
        candidate = Candidate(entry.name, slug, make_plan(derived, registry), entry.changes)
        if found:
            _check_budget(recipe, entry, candidate, found[0])
        if not candidate.stage.evaluators:
            raise RecipeError(
                f"nothing measures {entry.name!r}: [[evaluate]] is missing",
                where=recipe.where("evaluate"),
                fix='Add [[evaluate]] with use = "perplexity", for example.',
            )
        found.append(candidate)
    return found


def base_plan(recipe: Recipe, registry: Registry, settings: CompareSettings, entries: Sequence[Entry]) -> Plan:
    """The plan whose model, data and evaluators the unadapted model is measured with, an exporter never.

    The adapter and the trainer in it are used for nothing; its fingerprint leaves them out.
    """
    first = replace(entries[0], changes={})
    plan = make_plan(derive(recipe, registry, settings, first, Path(), BASE), registry)
    stage = plan.stages[0]
    role = replace(stage.main_role, adapter=None)
    bare = replace(stage, roles={role.role.name: role}, exporters=())
    # the trainer stays in the plan for the record types that it accepts
    covered = replace(bare, trainer=bare.data, fingerprint="")
    covered = replace(covered, files=deciding_files(covered, recipe.folder))
    made = fingerprint(covered, plan.run.seed, {})
    return replace(plan, stages=(replace(bare, files=covered.files, fingerprint=made),))


def general_of(recipe: Recipe, registry: Registry, settings: CompareSettings, stage: StagePlan) -> General | None:
    """How general ability is measured, checked; None when the recipe names no text."""
    if settings.general is None:
        return None
    planner = Planner(recipe, registry)
    data = planner.use("loader", settings.general, ("compare", "general"))
    measure = planner.use("evaluator", settings.measure, ("compare", "measure"))
    # the fingerprint of a stage covers the content of the files that its settings name
    covered = replace(stage, data=data, evaluators=(measure,), exporters=(), roles={}, trainer=data, fingerprint="")
    covered = replace(covered, files=deciding_files(covered, recipe.folder))
    return General(data, measure, fingerprint(covered, 0, {}))


def derive(
    recipe: Recipe, registry: Registry, settings: CompareSettings, entry: Entry, folder: Path, slug: str
) -> Recipe:
    """The recipe with an entry's adapter, then its presets, the entry's changes and the steps of [compare].

    Its keys know where they came from.

    Raises:
        RecipeError: the entry asks for other steps than [compare], or changes a table into something else.
        RecipeError, MissingError: as `expand`.
    """
    own = ("compare", "adapter")
    derived = copy.deepcopy(recipe)
    for place in (derived.tree, derived.lines, derived.origins):
        for key in [key for key in place if (key if isinstance(key, str) else key[0]) in own]:
            del place[key]  # type: ignore[arg-type]
    _graft(derived, ("adapter",), entry.table, lambda path: entry.where(recipe, *path[1:]))
    # the changes meet the whole recipe: whether they name another component can be told of that alone
    expand(derived, registry)
    for key, value in entry.changes.items():
        _graft(derived, (key,), value, lambda path: entry.where(recipe, "set", *path))
    if settings.steps is not None:
        _check_steps(recipe, settings.steps, entry)
        _graft(derived, ("trainer", "max_steps"), settings.steps, lambda _: recipe.where("compare", "steps"))
    run = derived.tree.setdefault("run", {})
    if isinstance(run, dict):
        run |= {"folder": str(folder), "name": slug}
    return derived


def _graft(recipe: Recipe, path: KeyPath, value: Any, where: Callable[[KeyPath], str]) -> None:
    """Put `value` at `path`: tables are merged, unless the new one names another component."""
    node: Any = recipe.tree
    for part in path[:-1]:
        node = node.setdefault(part, {})
        if not isinstance(node, dict):
            raise RecipeError(f"{dotted(path[:-1])} must be a table", where=recipe.where(*path[:-1]), fix="Mend it.")
    last = path[-1]
    old = node.get(last)
    if isinstance(value, Mapping) and isinstance(old, dict) and value.get("use", old.get("use")) == old.get("use"):
        for key, item in value.items():
            _graft(recipe, (*path, key), item, where)
        return
    node[last] = copy.deepcopy(value)
    for known in (recipe.lines, recipe.origins, recipe.left_out):
        for place in [place for place in known if place[: len(path)] == path]:
            del known[place]
    for place in _places(value, path):
        recipe.origins[place] = where(place)


def _places(value: Any, path: KeyPath) -> list[KeyPath]:
    inner = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in inner for place in _places(item, (*path, key)))]


def check_shape(recipe: Recipe) -> None:
    """Refuse recipes that mean more than one run in this place.

    Raises:
        RecipeError: with file and line.
    """
    for key, what in (("stages", "several stages"), ("launcher", "a launcher")):
        if key in recipe.tree:
            raise RecipeError(
                f"a recipe with {what} cannot be compared",
                where=recipe.where(key),
                fix=f"Take [{key}] out of the recipe, or compare a recipe of its one stage.",
            )


def _check_steps(recipe: Recipe, steps: int, entry: Entry) -> None:
    trainer = entry.changes.get("trainer")
    own = trainer.get("max_steps", steps) if isinstance(trainer, Mapping) else steps
    if own != steps:
        raise RecipeError(
            f"{entry.name!r} would train with max_steps = {own}, and `steps` in [compare] says {steps}: "
            "the budget must be equal",
            where=entry.where(recipe, "set", "trainer", "max_steps"),
            fix="Leave max_steps out here.",
        )


def _check_budget(recipe: Recipe, entry: Entry, candidate: Candidate, first: Candidate) -> None:
    for key in BUDGET:
        own, others = (getattr(c.stage.trainer.settings, key, None) for c in (candidate, first))
        if own != others:
            raise RecipeError(
                f"{candidate.name!r} would train with {key} = {own}, {first.name!r} with {others}: "
                "the budget must be equal",
                where=entry.where(recipe, "set", "trainer", key),
                fix="Set `steps` in [compare] and leave it out here.",
            )


def _slug(name: str, taken: set[str]) -> str:
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower().replace("+", "-plus")).strip("-") or "adapter"
    number, free = 1, slug[:60]
    while free in (*taken, BASE, SINGLE):
        number += 1
        free = f"{slug[:60]}-{number}"
    return free
