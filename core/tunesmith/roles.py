"""The models of a stage: every role loaded, adapted and checked before anything is measured or trained.

A frozen role whose base another role has too stands on the same weights, with its own adapter and its own head.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from tunesmith import artifact
from tunesmith.adapted import Adapted, DisabledView, ModelHandle
from tunesmith.adapters import Adapters
from tunesmith.bases import check_drawn
from tunesmith.context import Context
from tunesmith.dense import sizes
from tunesmith.errors import PluginError, TunesmithError
from tunesmith.guard import guarded
from tunesmith.labels import LABEL_HEADS, Labels, labels_of
from tunesmith.memory import trim
from tunesmith.plan import RolePlan, StagePlan, Use
from tunesmith.records import Dataset
from tunesmith.registry import Registry
from tunesmith.spec import Adapter, Evaluator
from tunesmith.views import EarlierView, FrozenView


@dataclass
class Roles:
    """The loaded models of a stage.

    Args:
        models: by role, in the trainer's order.
        base: the main role's model before its adapter; None when it goes on with an earlier stage's.
        evaluators: the stage's, with the models that they need besides the one that they measure.
        counts: `trainable_parameters` and `parameters` of the main role, for the stage's result.
    """

    models: dict[str, Adapted] = field(default_factory=dict)
    base: ModelHandle | None = None
    evaluators: tuple[Use, ...] = ()
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def main(self) -> Adapted:
        """The role that is evaluated and kept."""
        return next(iter(self.models.values()))


def load_roles(
    stage: StagePlan, data: Dataset, artifacts: Mapping[str, Path], registry: Registry, context: Context
) -> Roles:
    """Load, quantize and adapt every role. Frozen roles share the weights of a base that another role has too.

    Args:
        artifacts: what earlier stages kept, by name.

    Raises:
        TunesmithError: an adapter does not fit its model or the rows, or leaves nothing to train.
    """
    own = {name: role for name, role in stage.roles.items() if role.shares is None}
    measuring = _of_evaluators(stage.evaluators)
    loader = _Loader({**own, **measuring}, artifacts, registry, context, labels_of(data))
    loaded, lines = loader.load(), loader.lines
    roles = Roles(base=loader.bases[next(iter(stage.roles))], evaluators=_bound(stage.evaluators, loaded))
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
    trim()  # reading and quantizing leave much behind
    return roles


def with_models(
    evaluators: Sequence[Use], artifacts: Mapping[str, Path], registry: Registry, context: Context
) -> tuple[Use, ...]:
    """Evaluators with the models that they need besides the one that they measure, where no stage is being run."""
    return _bound(evaluators, _Loader(_of_evaluators(evaluators), artifacts, registry, context).load())


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
    """Loads roles, those of one base together.

    Args:
        labels: those of the rows, for a head that has one output for each.
        bases: of each role, its model before its adapter; None where it goes on with an earlier stage's.
    """

    roles: Mapping[str, RolePlan]
    artifacts: Mapping[str, Path]
    registry: Registry
    context: Context
    labels: Labels | None = None
    lines: dict[str, artifact.Line] = field(init=False)
    bases: dict[str, ModelHandle | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        made = {
            name: artifact.line_of_role(role, self.context.folder, self.artifacts, self.registry)
            for name, role in self.roles.items()
        }
        self.lines = {
            name: replace(line, labels=line.labels or self.labels) if line.head in LABEL_HEADS else line
            for name, line in made.items()
        }

    def load(self) -> dict[str, Adapted]:
        """Every role's model.

        Raises:
            DataError: one that is not trained has a head that nothing has trained.
        """
        loaded: dict[str, Adapted] = {}
        for names in self._with_one_base():
            models, base = self.alone(names[0]) if len(names) == 1 else self.together(names)
            loaded.update(models)
            self.bases.update(dict.fromkeys(names, base))
        for name, role in self.roles.items():
            check_drawn(role, loaded[name].handle)
        return loaded

    def alone(self, name: str) -> tuple[dict[str, Adapted], ModelHandle | None]:
        """A role that has its base for itself, and the base where the adapter is new."""
        line, kept = self.lines[name], self._kept(name)
        if kept is not None:
            return {name: artifact.load_artifact(kept, self.registry, self.context)}, None
        handle = self._base(line)
        return {name: artifact.adapt(handle, line.adapter, self.context)}, handle

    def together(self, names: Sequence[str]) -> tuple[dict[str, Adapted], ModelHandle | None]:
        """Roles on one copy of the base, at most one of which is trained; that one is active."""
        first, line = self._kept(names[0]), self.lines[names[0]]
        adapters = (
            Adapters.open(first, self.registry, self.context, name=names[0])
            if first is not None
            else Adapters(self._base(line), artifact.merged_digest(line.parent))
        )
        keys = {name: self._put(name, adapters) for name in names}
        trained = next((name for name in names if self.roles[name].role.trainable), None)
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
            adapted = adapters.load(name, kept, self.registry, self.context, any_head=True)
        if not self.roles[name].role.trainable:
            for parameter in adapted.trainable().values():
                parameter.requires_grad_(False)
        return name

    def _kept(self, name: str) -> Path | None:
        """The artifact whose adapter the role goes on with."""
        role = self.roles[name]
        return self.artifacts[role.stage] if role.stage is not None and role.carry == "continue" else None

    def _base(self, line: artifact.Line) -> ModelHandle:
        handle = artifact.load_base(line, self.registry, self.context)
        for note in handle.notes:
            self.context.reporter.say(note)
        return handle

    def _with_one_base(self) -> list[list[str]]:
        """Names of roles by base, in order; two roles that are trained never share one."""
        groups: list[list[str]] = []
        for name in self.roles:
            group = next((names for names in groups if self._fits(name, names)), None)
            if group is None:
                groups.append([name])
            else:
                group.append(name)
        return groups

    def _fits(self, name: str, names: Sequence[str]) -> bool:
        """Whether a role can stand on the base of others, the first of which was loaded with its own head.

        A head of another kind can be put on that base where it comes out of an earlier stage's artifact. A language
        model's own head is part of the base, and no artifact has it.
        """
        line, first = self.lines[name], self.lines[names[0]]
        if _base_of(line) != _base_of(first):
            return False
        trained = [other for other in (name, *names) if self.roles[other].role.trainable]
        if len(trained) > 1:
            return False
        same = (line.head, line.labels) == (first.head, first.labels)
        return same or (first.head == "causal-lm" and self._kept(name) is not None)


def _base_of(line: artifact.Line) -> tuple[artifact.Line, str]:
    """What a base is told by, wherever the stage lies that was merged into it."""
    return replace(line, adapter=None, head="", parent=None, labels=None), artifact.merged_digest(line.parent)


def _of_evaluators(evaluators: Sequence[Use]) -> dict[str, RolePlan]:
    """The roles of evaluators, under names that no trainer's role can have."""
    return {
        f"evaluate.{number}.{name}": role for number, use in enumerate(evaluators) for name, role in use.roles.items()
    }


def _bound(evaluators: Sequence[Use], loaded: Mapping[str, Adapted]) -> tuple[Use, ...]:
    return tuple(
        replace(use, models={name: loaded[f"evaluate.{number}.{name}"] for name in use.roles})
        if isinstance(use.component, Evaluator) and use.component.roles
        else use
        for number, use in enumerate(evaluators)
    )


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
