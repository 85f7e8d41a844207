"""The models that an evaluator needs besides the one that it measures, out of its table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tunesmith.errors import RecipeError, nearest
from tunesmith.locate import KeyPath
from tunesmith.plan import RolePlan
from tunesmith.recipe import dotted
from tunesmith.spec import Evaluator, Trainer

if TYPE_CHECKING:
    from tunesmith.planner import Planner


def take_models(planner: Planner, evaluator: Evaluator, settings: dict[str, Any], path: KeyPath) -> dict[str, RolePlan]:
    """An evaluator's roles, which leave its settings.

    Raises:
        RecipeError: it has no such role, or one that it needs is not named.
    """
    if not evaluator.roles:
        return {}
    given = planner.table(settings, "models", path)
    settings.pop("models", None)
    known_roles(planner, evaluator, given, path)
    roles = {}
    for role in evaluator.roles:
        place = (*path, "models", role.name)
        if role.name in given:
            roles[role.name] = planner.role(role, given[role.name], {}, place, path)
        elif not role.optional:
            raise RecipeError(
                f"[{dotted(place)}] is missing: evaluator {evaluator.name!r} needs it",
                where=planner.recipe.where(*path),
                fix=f'Name an earlier stage, models.{role.name}.from = "NAME", or a model by its source.',
            )
    return roles


def known_roles(planner: Planner, component: Trainer | Evaluator, given: Mapping[str, Any], path: KeyPath) -> None:
    """Refuse a model whose role a component does not have.

    Raises:
        RecipeError: with the nearest name.
    """
    names = [role.name for role in component.roles]
    for key in given:
        if key not in names:
            near = nearest(key, names)
            raise RecipeError(
                f"{component.kind} {component.name!r} has no role {key!r}",
                where=planner.recipe.where(*path, "models", key),
                fix=f"Did you mean {near!r}?" if near else f"Its roles: {', '.join(names)}.",
            )
