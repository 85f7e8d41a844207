"""Several adapters on one base: one copy of the base weights in memory, and a switch between its adapters.

An adapter may change anything about the model that it is put on: modules, hooks, parameters, configuration. So what
is kept of each adapter is the structure of the whole model with it, not what one method is known to change; weights
are kept by reference. Whatever adapts a model through `Adapted` can therefore share a base with any other.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from tunesmith.adapted import Adapted, ModelHandle
from tunesmith.artifact import adapt, changed_files, load_base, parent_digest, read_card, read_line
from tunesmith.context import Context
from tunesmith.errors import DataError, UsageError, nearest
from tunesmith.guard import guarded
from tunesmith.registry import Registry
from tunesmith.store import verify


class Adapters:
    """The adapters on one base, at most one of which is active.

    ```python
    adapters = Adapters.open(Path("runs/a/artifact"), registry, context, name="a")
    adapters.load("b", Path("runs/b/artifact"), registry, context)
    with adapters.using("a") as adapted:
        adapted.model(...)
    with adapters.using(None) as base:
        base.model(...)
    ```

    Parameters that an adapter trains in place are copied for it, so the base stays what it was. `Adapted.merge`
    changes the base weights themselves: merge an adapter that was loaded alone.

    Args:
        handle: the loaded base.
        merged: what tells the earlier stage that was merged into it, as `parent_digest` gives it.
    """

    def __init__(self, handle: ModelHandle, merged: str = "none") -> None:
        self.handle = handle
        self.active: str | None = None
        self._adapted: dict[str | None, Adapted] = {None: Adapted(handle)}
        self._structure: dict[str | None, Structure] = {None: Structure(handle.model)}
        self._parent = merged

    @classmethod
    def open(cls, artifact: Path, registry: Registry, context: Context, *, name: str = "main") -> Adapters:
        """Load the base of an artifact and put its adapter on it, which is then active.

        Raises:
            TunesmithError: a file is damaged, or the base is not the one that the adapter was trained on.
        """
        verify(artifact)
        adapters = cls(load_base(read_line(artifact, registry), registry, context), parent_digest(artifact))
        adapters.load(name, artifact, registry, context)
        return adapters

    @property
    def names(self) -> tuple[str, ...]:
        """The adapters, in the order in which they came."""
        return tuple(name for name in self._adapted if name is not None)

    @property
    def current(self) -> Adapted:
        """The active adapter, or the base as an `Adapted` that does nothing."""
        return self._adapted[self.active]

    def attach(
        self, name: str, make: Callable[[ModelHandle], Adapted], fill: Callable[[Adapted], None] | None = None
    ) -> Adapted:
        """Put a new adapter on the base; it is then the active one.

        Args:
            make: from the bare base to the adapted model.
            fill: reads the adapter's weights into it.

        Raises:
            UsageError: there is an adapter of that name.
        """
        if name in self._adapted:
            raise UsageError(f"there is an adapter {name!r} already", fix="Give the new one another name.")
        self.switch(None)
        try:
            adapted = make(replace(self.handle))
            _own_parameters(adapted.model, self.handle.model)
            if fill:
                fill(adapted)
        except BaseException:
            self._structure[None].restore()
            raise
        self._adapted[name] = adapted
        self.active = name
        return adapted

    def load(
        self, name: str, artifact: Path, registry: Registry, context: Context, *, any_head: bool = False
    ) -> Adapted:
        """Put the adapter of an artifact on the base; it is then the active one.

        Args:
            any_head: also one that was made under another head, which the artifact keeps; it is put on the same base
                for this adapter alone.

        Raises:
            TunesmithError: a file is damaged.
            DataError: it was made for another base.
        """
        verify(artifact)
        line = read_line(artifact, registry)
        base = read_card(artifact)["base"]
        change = self.handle.with_head if any_head and line.head != self.handle.head else None
        head = line.head if change else self.handle.head
        wanted = {"weights": base["digest"][:16], "head": line.head, "merged stage": parent_digest(artifact)}
        here = {"weights": self.handle.digest[:16], "head": head, "merged stage": self._parent}
        details = [f"{key}: made for {wanted[key]}, here {here[key]}" for key in here if wanted[key] != here[key]]
        details += changed_files(base.get("files", {}), self.handle.files)
        if details:
            raise DataError(
                f"the adapter in {artifact} was made for another base model",
                where=str(artifact),
                details=details,
                fix="Load it alone, with its own base.",
            )
        if base.get("quantized") != self.handle.quantized:
            context.reporter.warn(
                f"{artifact} was trained over {base.get('quantized') or 'dense'} weights; here they are "
                f"{self.handle.quantized or 'dense'}, so its answers may differ"
            )

        def fill(adapted: Adapted) -> None:
            with guarded(line.adapter) if line.adapter else nullcontext():
                adapted.load(artifact)
            adapted.model.eval()

        def make(handle: ModelHandle) -> Adapted:
            if change:
                handle = change(replace(handle, labels=line.labels), line.head, context.seed)
            return adapt(handle, line.adapter, context.with_(folder=line.folder, fresh=False))

        return self.attach(name, make, fill)

    def switch(self, name: str | None) -> Adapted:
        """Make an adapter the active one; None is the base alone.

        Raises:
            UsageError: there is none of that name.
        """
        if name not in self._adapted:
            near = nearest(str(name), self.names)
            raise UsageError(
                f"there is no adapter {name!r}",
                fix=f"Did you mean {near!r}?" if near else f"Adapters: {', '.join(self.names) or 'none'}.",
            )
        if name != self.active:
            self._structure[self.active] = Structure(self.handle.model, self.current.model)
            self._structure[None].restore()  # what another adapter added must be gone, known to `name` or not
            self._structure[name].restore()
            self.active = name
        return self.current

    @contextmanager
    def using(self, name: str | None) -> Iterator[Adapted]:
        """An adapter for the time of the block; afterwards the one that was active is active again."""
        earlier = self.active
        try:
            yield self.switch(name)
        finally:
            self.switch(earlier)


class Structure:
    """Everything about a model but the values of its weights: its modules, hooks, flags, and configurations.

    Args:
        roots: torch modules; what is below each counts.
    """

    def __init__(self, *roots: Any) -> None:
        modules = list({id(module): module for root in roots for module in root.modules()}.values())
        holders = [*modules, *_configurations(modules)]
        self._attributes = [(holder, dict(vars(holder))) for holder in holders]
        # a hook's handle knows the very container that it is in, so containers are refilled and not replaced
        self._containers = [
            (value, copy.copy(value)) for _, attributes in self._attributes for value in _containers(attributes)
        ]
        parameters = {id(p): p for module in modules for p in module._parameters.values() if p is not None}
        self._parameters = [(p, p.data, p.requires_grad) for p in parameters.values()]

    def restore(self) -> None:
        """Put the model back as it was; parameters get the storage back that they had."""
        for holder, attributes in self._attributes:
            vars(holder).clear()
            vars(holder).update(attributes)
        for container, content in self._containers:
            container.clear()
            container.extend(content) if isinstance(container, list) else container.update(content)
        for parameter, data, requires_grad in self._parameters:
            if _moved(parameter.data, data):
                parameter.data = data
            parameter.requires_grad_(requires_grad)


def _containers(attributes: dict[str, Any]) -> Iterator[Any]:
    """The dictionaries, lists and sets in attributes, those within them too."""
    for value in attributes.values():
        if isinstance(value, (dict, list, set)):
            yield value
            if isinstance(value, dict):
                yield from _containers({key: item for key, item in value.items() if isinstance(item, (dict, list))})


def _configurations(modules: list[Any]) -> list[Any]:
    """The configuration objects of modules and those within them: what has `to_dict`."""
    found: dict[int, Any] = {}
    waiting = [value for module in modules for value in vars(module).values()]
    while waiting:
        value = waiting.pop()
        if hasattr(value, "to_dict") and hasattr(value, "__dict__") and id(value) not in found:
            found[id(value)] = value
            waiting.extend(vars(value).values())
    return list(found.values())


def _moved(now: Any, then: Any) -> bool:
    """Whether a parameter was given other storage; quantized tensors are wrapped and never are."""
    import torch

    if type(now) is not torch.Tensor or type(then) is not torch.Tensor:
        return False
    return now.data_ptr() != then.data_ptr() or now.shape != then.shape


def _own_parameters(model: Any, base: Any) -> None:
    """Copy the base's own parameters that an adapter trains, ties included, and put the copies into `model`."""
    import torch

    of_base = {id(p) for p in base.parameters()}
    copies: dict[int, Any] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is None or not parameter.requires_grad or id(parameter) not in of_base:
                continue
            if id(parameter) not in copies:
                copies[id(parameter)] = torch.nn.Parameter(parameter.detach().clone())
            module._parameters[name] = copies[id(parameter)]
