"""The models of a stage: every role loaded, adapted and checked before anything is measured or trained."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tunesmith import artifact
from tunesmith.adapted import Adapted, DisabledView, ModelHandle
from tunesmith.context import Context
from tunesmith.errors import PluginError, TunesmithError
from tunesmith.guard import guarded
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
        counts: `trainable_parameters` and `parameters` of the last trainable role, for the stage's result.
    """

    models: dict[str, Adapted] = field(default_factory=dict)
    base: ModelHandle | None = None
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def main(self) -> Adapted:
        """The role that is evaluated and kept."""
        return next(iter(self.models.values()))


def load_roles(
    stage: StagePlan, data: Dataset, artifacts: Mapping[str, Path], registry: Registry, context: Context
) -> Roles:
    """Load, quantize and adapt every role.

    Args:
        artifacts: what earlier stages kept, by name.

    Raises:
        TunesmithError: an adapter does not fit its model or the rows, or leaves nothing to train.
    """
    roles = Roles()
    for name, role in stage.roles.items():
        if role.shares is not None:
            goes_on = stage.roles[role.shares].stage is not None and stage.roles[role.shares].carry == "continue"
            roles.models[name] = (EarlierView if goes_on else DisabledView)(roles.models[role.shares])
            continue
        line = artifact.line_of_role(role, context.folder, artifacts, registry)
        if role.stage is not None and role.carry == "continue":
            adapted = artifact.load_artifact(artifacts[role.stage], registry, context)
        else:
            handle = artifact.load_base(line, registry, context)
            for note in handle.notes:
                context.reporter.say(note)
            adapted = artifact.adapt(handle, line.adapter, context)
            if not roles.models:
                roles.base = handle
        if line.adapter and role.role.trainable:
            with guarded(line.adapter):
                roles.counts = _trainable(role, adapted, line.adapter, context)
                adapted.check_data(data)
        roles.models[name] = adapted
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
    total = sum(p.numel() for p in adapted.model.parameters())
    context.reporter.say(f"training {moved:,} of {total:,} parameters ({moved / total:.2%})")
    return {"trainable_parameters": moved, "parameters": total}
