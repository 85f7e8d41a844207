"""On which base each model of a stage stands, as far as a plan tells, and what of it nothing has trained."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from tunesmith.adapted import ModelHandle
from tunesmith.errors import DataError
from tunesmith.plan import RolePlan, StagePlan


@dataclass(frozen=True)
class Base:
    """What a role's adapter is put on.

    Args:
        key: equal for equal bases.
        words: what a person calls it.
    """

    key: str
    words: str


def base_of(role: RolePlan, stages: Mapping[str, StagePlan]) -> Base:
    """The base of a role; that of an earlier stage where the role goes on with its adapter.

    Args:
        stages: the earlier stages, by name.
    """
    if role.model is not None:
        uses = {"model": role.model, "quantizer": role.quantizer}
        described = {name: use.describe() for name, use in uses.items() if use}
        source = str(getattr(role.model.settings, "source", role.model.component.name))
        words = f"{source} in {role.quantizer.component.name}" if role.quantizer else source
        return Base(json.dumps(described, sort_keys=True), words)
    assert role.stage is not None
    earlier = stages[role.stage]
    below = base_of(earlier.main_role, stages)
    if role.carry == "continue":
        return below
    return Base(f"{below.key} + {earlier.fingerprint}", f"{below.words} with stage {role.stage} merged")


def apart(roles: Mapping[str, RolePlan], stages: Mapping[str, StagePlan]) -> str | None:
    """A sentence on roles whose bases differ, so that each takes memory; None where all stand on one."""
    own = {name: base_of(role, stages) for name, role in roles.items() if role.shares is None}
    groups: dict[str, list[str]] = {}
    for name, base in own.items():
        groups.setdefault(base.key, []).append(name)
    if len(groups) < 2:
        return None
    told = "; ".join(f"{', '.join(names)} on {own[names[0]].words}" for names in groups.values())
    return f"{len(groups)} bases, each with weights of its own in memory: {told}"


def check_drawn(role: RolePlan, handle: ModelHandle) -> None:
    """Refuse a model that nothing trains, and that has parts which its source lacks: they are random.

    Raises:
        DataError: naming the parts.
    """
    goes_on = role.stage is not None and role.carry == "continue"
    if role.role.trainable or goes_on or not handle.drawn:
        return
    name = role.role.name
    raise DataError(
        f"role {name!r} is not trained here, and {handle.source} has no {handle.head!r} head: "
        "its scores would be random",
        where=handle.source,
        details=[f"drawn at random: {', '.join(handle.drawn[:5])}"],
        fix=f'Train such a model in an earlier stage and name that: [models.{name}] with from = "STAGE".',
    )
