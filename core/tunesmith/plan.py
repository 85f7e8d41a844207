"""Recipe -> Plan: every component found, every setting checked, roles and stages tied together.

A plan is data: it can be printed, compared and stored. Making one loads no model and imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tunesmith.recipe import Recipe, RunSettings, expand, plain
from tunesmith.registry import Registry
from tunesmith.spec import Component, Role, Settings

#: The name of the only stage of a recipe without `[stages]`.
SINGLE = "main"


@dataclass(frozen=True)
class Use:
    """A component as a recipe uses it: the record, where it comes from, its checked settings.

    Args:
        notes: what its own check says about these settings here; no part of a fingerprint.
        implied: whether the recipe does not name it: an evaluator that a run uses unasked. No part of a fingerprint.
        steps: of a loader, what prepares its rows, in order.
        sources: of a loader that combines others, these by name.
        roles: of an evaluator, the models that it needs besides the one that it measures.
        models: these, once they are loaded; handed to its factory.
    """

    component: Component
    qualified: str
    distribution: str
    version: str
    settings: Settings
    notes: tuple[str, ...] = field(default=(), compare=False)
    implied: bool = False
    steps: tuple[Use, ...] = ()
    sources: Mapping[str, Use] = field(default_factory=dict)
    roles: Mapping[str, RolePlan] = field(default_factory=dict)
    models: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)

    def describe(self) -> dict[str, Any]:
        """The use as JSON-ready data."""
        sources = {name: use.describe() for name, use in self.sources.items()}
        return {
            "kind": self.component.kind,
            "name": self.component.name,
            "distribution": self.distribution,
            "version": self.version,
            "settings": plain(self.settings),
            **({"implied": True} if self.implied else {}),
            **({"sources": sources} if sources else {}),
            **({"steps": [use.describe() for use in self.steps]} if self.steps else {}),
            **({"roles": [role.describe() for role in self.roles.values()]} if self.roles else {}),
        }

    def within(self) -> Iterator[Use]:
        """This use, and those below it: its sources with theirs, and its steps."""
        yield self
        for use in (*self.sources.values(), *self.steps):
            yield from use.within()

    def call(self, *arguments: Any, **options: Any) -> Any:
        """Call the component's factory; one of an evaluator that has roles with their models, too."""
        more = () if self.models is None else (self.models,)
        return self.component.resolve()(*arguments, *more, **options)


@dataclass(frozen=True)
class RolePlan:
    """How one role's model comes to be: load -> quantize -> adapt, or an earlier stage's artifact.

    Args:
        stage: the stage whose artifact it starts from, instead of `model`.
        carry: with `stage`: go on with its adapter, or merge it into the base first.
        shares: another role, when this one is that role's model with its adapter disabled.
    """

    role: Role
    model: Use | None = None
    quantizer: Use | None = None
    adapter: Use | None = None
    stage: str | None = None
    carry: Literal["continue", "merge"] = "continue"
    shares: str | None = None

    def describe(self) -> dict[str, Any]:
        """The role as JSON-ready data."""
        uses = {"model": self.model, "quantizer": self.quantizer, "adapter": self.adapter}
        return {
            "role": self.role.name,
            "trainable": self.role.trainable,
            "head": self.role.head,
            **{name: use.describe() for name, use in uses.items() if use},
            **({"from": self.stage, "carry": self.carry} if self.stage else {}),
            **({"shares": self.shares} if self.shares else {}),
        }


@dataclass(frozen=True)
class StagePlan:
    """One training stage.

    Args:
        files: digests of what decides the result besides the settings, by the names that differences are told by.
        begins: the model that its main role begins with, through the stages before it.
    """

    name: str
    data: Use
    roles: Mapping[str, RolePlan]
    trainer: Use
    evaluators: tuple[Use, ...] = ()
    exporters: tuple[Use, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    fingerprint: str = ""
    begins: Use | None = field(default=None, compare=False, repr=False)

    @property
    def main_role(self) -> RolePlan:
        """The role that is evaluated and kept: the trainer's first."""
        return next(iter(self.roles.values()))

    @property
    def needs(self) -> tuple[str, ...]:
        """Stages whose artifacts this one starts from."""
        return tuple(dict.fromkeys(role.stage for role in self._all_roles() if role.stage))

    def uses(self) -> Iterator[Use]:
        """Every component of the stage."""
        yield from self.data.within()
        for role in self._all_roles():
            yield from (use for use in (role.model, role.quantizer, role.adapter) if use)
        yield self.trainer
        yield from self.evaluators
        yield from self.exporters

    def _all_roles(self) -> Iterator[RolePlan]:
        yield from self.roles.values()
        for use in self.evaluators:
            yield from use.roles.values()

    def notes(self) -> list[dict[str, str]]:
        """What the components say about their settings here: `kind`, `name` and `note`, each once."""
        said = [(use.component.kind, use.component.name, note) for use in self.uses() for note in use.notes]
        return [{"kind": kind, "name": name, "note": note} for kind, name, note in dict.fromkeys(said)]

    def describe(self) -> dict[str, Any]:
        """The stage as JSON-ready data."""
        return {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "data": self.data.describe(),
            "roles": [role.describe() for role in self.roles.values()],
            "trainer": self.trainer.describe(),
            "evaluate": [use.describe() for use in self.evaluators],
            "export": [use.describe() for use in self.exporters],
            "files": dict(self.files),
            "notes": self.notes(),
        }


@dataclass(frozen=True)
class Plan:
    """What a recipe means here, with the plugins that are installed."""

    recipe: Recipe
    run: RunSettings
    stages: tuple[StagePlan, ...]
    launcher: Use | None = None
    plugins: Mapping[str, str] = field(default_factory=dict)

    def describe(self) -> dict[str, Any]:
        """The plan as JSON-ready data."""
        return {
            "recipe": str(self.recipe.path) if self.recipe.path else None,
            "run": plain(self.run),
            "stages": [stage.describe() for stage in self.stages],
            **({"launcher": self.launcher.describe()} if self.launcher else {}),
            "plugins": dict(self.plugins),
        }

    def stage(self, name: str) -> StagePlan:
        """The stage called `name`."""
        return next(stage for stage in self.stages if stage.name == name)


def make_plan(recipe: Recipe, registry: Registry) -> Plan:
    """Check a recipe against the plugins that are installed here.

    Raises:
        RecipeError: a key, a value or a combination is wrong; the message has file and line.
        MissingError: a plugin or what it requires is not installed.
        TunesmithError: what a component's own check found (a missing data file, ...).
    """
    from tunesmith.planner import Planner

    return Planner(expand(recipe, registry), registry).plan()
