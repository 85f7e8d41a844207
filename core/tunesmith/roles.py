"""The models of a stage: every role loaded, adapted and checked before anything is measured or trained.

A frozen role whose base another role has too stands on the same weights, with its own adapter.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tunesmith import artifact
from tunesmith.adapted import Adapted, DisabledView, ModelHandle
from tunesmith.adapters import Adapters
from tunesmith.context import Context
from tunesmith.dense import sizes
from tunesmith.errors import PluginError, TunesmithError
from tunesmith.guard import guarded
from tunesmith.labels import LABEL_HEADS, labels_of
from tunesmith.plan import RolePlan, StagePlan, Use
from tunesmith.records import Dataset
from tunesmith.registry import Registry
from tunesmith.spec import Adapter


@dataclass
class Roles:
    """The loaded models of a stage.

    Args:
        models: by role, in the trainer's order.
        base: the main role's model before its adapter; None when it goes on with an earlier stage's.
        counts: `trainable_parameters` and `parameters` of the main role, for the stage's result.
    """

    models: dict[str, Adapted] = field(default_factory=dict)
    base: ModelHandle | None = None
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def main(self) -> Adapted:
        """The role that is evaluated and kept."""
        return next(iter(self.models.values()))


class FrozenView(Adapted):
    """A role that stands on the base of another one: its own adapter, or none, is put there for the time of `use`.

    Args:
        adapters: the adapters on that base.
        name: this role's; None for the base alone.
    """

    def __init__(self, adapters: Adapters, name: str | None) -> None:
        adapted = adapters.switch(name)
        super().__init__(adapted.handle, adapted.model)
        self._adapters = adapters
        self._name = name

    def trainable(self) -> dict[str, Any]:
        return {}

    @contextmanager
    def disabled(self) -> Iterator[Any]:
        with self._adapters.using(self._name) as adapted, adapted.disabled() as model:
            yield model

    @contextmanager
    def use(self) -> Iterator[Any]:
        with self._adapters.using(self._name) as adapted, adapted.use() as model:
            yield model


def load_roles(
    stage: StagePlan, data: Dataset, artifacts: Mapping[str, Path], registry: Registry, context: Context
) -> Roles:
    """Load, quantize and adapt every role. Frozen roles share the weights of a base that another role has too.

    Args:
        artifacts: what earlier stages kept, by name.

    Raises:
        TunesmithError: an adapter does not fit its model or the rows, or leaves nothing to train.
    """
    roles = Roles()
    own = {name: role for name, role in stage.roles.items() if role.shares is None}
    lines = {name: artifact.line_of_role(role, context.folder, artifacts, registry) for name, role in own.items()}
    labels = labels_of(data)
    lines = {
        name: replace(line, labels=line.labels or labels) if line.head in LABEL_HEADS else line
        for name, line in lines.items()
    }
    loaded: dict[str, Adapted] = {}
    for names in _with_one_base(stage, lines):
        loader = _Loader(stage, lines, artifacts, registry, context)
        models, base = loader.alone(names[0]) if len(names) == 1 else loader.together(names)
        loaded.update(models)
        if next(iter(stage.roles)) in names:
            roles.base = base
    for name, role in stage.roles.items():
        if role.shares is None:
            roles.models[name] = loaded[name]
        else:
            shared = stage.roles[role.shares]
            goes_on = shared.stage is not None and shared.carry == "continue"
            roles.models[name] = (EarlierView if goes_on else DisabledView)(loaded[role.shares])
        use = lines[name].adapter if name in lines else None
        if use and role.role.trainable:
            with guarded(use):
                counts = _trainable(role, roles.models[name], use, context)
                if roles.models[name] is roles.main:
                    roles.counts = counts
                roles.models[name].check_data(data)
    return roles


class EarlierView(DisabledView):
    """A role that is another role's model as an earlier stage left it: a copy of its trainable weights is kept.

    Without its adapter that model would be the base, which is not what this stage starts from.
    """

    def __init__(self, of: Adapted) -> None:
        super().__init__(of)
        self._earlier = copy.deepcopy(of.state())

    @contextmanager
    def use(self) -> Iterator[Any]:
        trained = copy.deepcopy(self._of.state())
        self._of.load_state(self._earlier)
        try:
            with self._of.use() as model:
                yield model
        finally:
            self._of.load_state(trained)


@contextmanager
def untrained(roles: Roles, use: Use | None, context: Context) -> Iterator[ModelHandle]:
    """The main role as the stage found it: without its new adapter, or as an earlier stage left it.

    The adapter is in the model already, so that one that does not fit is refused before anything is measured.

    Args:
        use: the main role's adapter.
    """
    adapted = roles.main
    with ExitStack() as stack:
        if roles.base is None:
            yield replace(adapted.handle, model=stack.enter_context(adapted.use()))
            return
        try:
            model = stack.enter_context(adapted.disabled()) if use else adapted.model
        except TunesmithError:
            # at step 0 a method that starts as the identity is the base model
            assert use is not None
            assert isinstance(use.component, Adapter)
            if not use.component.identity:
                context.reporter.warn(
                    f"adapter {use.component.name!r} cannot be disabled: what is measured before training is the model "
                    "with the untrained adapter"
                )
                yield replace(adapted.handle, model=stack.enter_context(adapted.use()))
                return
            model = stack.enter_context(adapted.use())
        yield replace(roles.base, model=model)


@dataclass
class _Loader:
    """Loads roles of one base."""

    stage: StagePlan
    lines: Mapping[str, artifact.Line]
    artifacts: Mapping[str, Path]
    registry: Registry
    context: Context

    def alone(self, name: str) -> tuple[dict[str, Adapted], ModelHandle | None]:
        """A role that has its base for itself, and the base where the adapter is new."""
        line, kept = self.lines[name], self._kept(name)
        if kept is not None:
            return {name: artifact.load_artifact(kept, self.registry, self.context)}, None
        handle = self._base(line)
        return {name: artifact.adapt(handle, line.adapter, self.context)}, handle

    def together(self, names: Sequence[str]) -> tuple[dict[str, Adapted], ModelHandle | None]:
        """Roles on one copy of the base, at most one of which is trained; that one is active."""
        first = self._kept(names[0])
        adapters = (
            Adapters.open(first, self.registry, self.context, name=names[0])
            if first is not None
            else Adapters(self._base(self.lines[names[0]]))
        )
        keys = {name: self._put(name, adapters) for name in names}
        trained = next((name for name in names if self.stage.roles[name].role.trainable), None)
        models: dict[str, Adapted] = {name: FrozenView(adapters, keys[name]) for name in names if name != trained}
        active = adapters.switch(keys[trained] if trained else None)
        if trained:
            models[trained] = active
        self.context.reporter.say(f"{', '.join(names)}: one copy of the base model in memory")
        return models, adapters.handle if first is None else None

    def _put(self, name: str, adapters: Adapters) -> str | None:
        """Put a role's adapter on the base; its name there, None when it has no adapter."""
        line, kept = self.lines[name], self._kept(name)
        if line.adapter is None:
            return None
        if kept is None:
            adapted = adapters.attach(name, lambda handle: artifact.adapt(handle, line.adapter, self.context))
        elif name in adapters.names:
            adapted = adapters.switch(name)
        else:
            adapted = adapters.load(name, kept, self.registry, self.context)
        if not self.stage.roles[name].role.trainable:
            for parameter in adapted.trainable().values():
                parameter.requires_grad_(False)
        return name

    def _kept(self, name: str) -> Path | None:
        """The artifact whose adapter the role goes on with."""
        role = self.stage.roles[name]
        return self.artifacts[role.stage] if role.stage is not None and role.carry == "continue" else None

    def _base(self, line: artifact.Line) -> ModelHandle:
        handle = artifact.load_base(line, self.registry, self.context)
        for note in handle.notes:
            self.context.reporter.say(note)
        return handle


def _with_one_base(stage: StagePlan, lines: Mapping[str, artifact.Line]) -> list[list[str]]:
    """Names of roles by base, in order; two roles that are trained never share one."""
    groups: list[tuple[artifact.Line, list[str]]] = []
    for name, line in lines.items():
        base, trained = replace(line, adapter=None), stage.roles[name].role.trainable
        for other, names in groups:
            if other == base and not (trained and any(stage.roles[n].role.trainable for n in names)):
                names.append(name)
                break
        else:
            groups.append((base, [name]))
    return [names for _, names in groups]


def _trainable(role: RolePlan, adapted: Adapted, use: Use, context: Context) -> dict[str, int]:
    """How many parameters move, and of how many.

    Raises:
        PluginError: none does.
    """
    moved = sum(p.numel() for p in adapted.trainable().values())
    if not moved:
        raise PluginError(
            f"role {role.role.name!r}: adapter {use.component.name!r} of {use.distribution} {use.version} leaves "
            "nothing to train",
            fix=f"Check its targets: `tunesmith plugins show {use.component.name}` lists its settings.",
        )
    total = sum(sizes(adapted.model).values())
    context.reporter.say(f"training {moved:,} of {total:,} parameters ({moved / total:.2%})")
    return {"trainable_parameters": moved, "parameters": total}
