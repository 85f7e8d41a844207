"""Roles that stand on the model of another one."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tunesmith.adapted import Adapted, DisabledView
from tunesmith.adapters import Adapters


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
