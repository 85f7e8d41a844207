"""What a plan would train: which parameters move and which stay, found on the adapted model itself.

Where a model source can build its model without weights, none are read. Otherwise the model is loaded, as it is under
a quantizer: which weights it packs is known only then.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from tunesmith.artifact import Line, adapt, load_base
from tunesmith.context import Context, SilentReporter
from tunesmith.dense import sizes
from tunesmith.labels import LABEL_HEADS, labels_of
from tunesmith.plan import Plan, StagePlan
from tunesmith.registry import Registry
from tunesmith.stage import load_data
from tunesmith.unloaded import line_of, unloaded

INDEX = re.compile(r"(?:^|(?<=\.))\d+(?=\.)")


@dataclass(frozen=True)
class Group:
    """Parameters that are treated alike: a module's, or those of like blocks.

    Args:
        name: such as `model.layers.0-27.*`.
        moves: how many parameters move, over all blocks of the group.
        stays: how many stay.
        moving: the names, below a block, of what moves.
    """

    name: str
    moves: int
    stays: int
    moving: tuple[str, ...]


@dataclass(frozen=True)
class Probe:
    """What moves in one role's model.

    Args:
        loaded: whether the weights had to be read.
        memory: bytes of the weights, and of gradients and two moments for what moves. Activations come on top.
    """

    role: str
    adapter: str
    groups: tuple[Group, ...]
    loaded: bool
    memory: int

    @property
    def moves(self) -> int:
        """Parameters that move."""
        return sum(group.moves for group in self.groups)

    @property
    def total(self) -> int:
        """All parameters, the adapter's own included."""
        return sum(group.moves + group.stays for group in self.groups)

    def describe(self) -> dict[str, Any]:
        """The probe as JSON-ready data."""
        return {**asdict(self), "moves": self.moves, "total": self.total}


def probe(plan: Plan, stage: StagePlan, registry: Registry, context: Context) -> list[Probe]:
    """Build the model of each trainable role of a stage and look at its parameters.

    Raises:
        TunesmithError: the adapter does not fit the model, or the model cannot be had.
    """
    roles = [role for role in stage.roles.values() if role.role.trainable]
    lines = {role.role.name: line_of(plan, role, context) for role in roles}
    if any(line.head in LABEL_HEADS for line in lines.values()):  # how many outputs a head has, the rows say
        labels = labels_of(load_data(stage, context.with_(reporter=SilentReporter())))
        lines = {name: replace(line, labels=labels) for name, line in lines.items()}
    return [_probe(name, line, registry, context) for name, line in lines.items()]


def grouped(parameters: Mapping[str, tuple[int, bool]]) -> tuple[Group, ...]:
    """Parameters by module, neighbouring blocks that are alike as one.

    Args:
        parameters: for each name its number of values and whether it moves, in the model's order.
    """
    places: dict[tuple[str, int | None], _Place] = {}
    for name, (count, moves) in parameters.items():
        found = INDEX.search(name)
        above, _, last = name.rpartition(".")
        key: tuple[str, int | None] = (name[: found.start()], int(found[0])) if found else (above or last, None)
        places.setdefault(key, _Place()).add(name[found.end() + 1 :] if found else last, count, moves)
    return tuple(_joined(places))


# --- building -------------------------------------------------------------------------------------
def _probe(role: str, line: Line, registry: Registry, context: Context) -> Probe:
    known = {"trusted_code": registry.trusted_code, "labels": line.labels}
    quiet = context.with_(reporter=SilentReporter(), fresh=False, **known)
    adapted = unloaded(line, quiet)
    loaded = adapted is None
    if adapted is None:
        adapted = adapt(load_base(line, registry, context), line.adapter, context)
    inside = [name for name, module in adapted.model.named_modules() if module is adapted.handle.model]
    prefix = f"{inside[0]}." if inside and inside[0] else ""
    trainable = {id(parameter) for parameter in adapted.trainable().values()}
    counts, found, memory = sizes(adapted.model), {}, 0
    for name, parameter in adapted.model.named_parameters():
        moves = id(parameter) in trainable
        found[name.removeprefix(prefix)] = (counts[name], moves)
        memory += parameter.numel() * parameter.element_size() * (4 if moves else 1)
    name = line.adapter.component.name if line.adapter else ""
    return Probe(role, name, grouped(found), loaded, memory)


# --- grouping -------------------------------------------------------------------------------------
@dataclass
class _Place:
    """One module, or one block of a stack."""

    moves: int = 0
    stays: int = 0
    moving: dict[str, None] = field(default_factory=dict)

    def add(self, name: str, count: int, moves: bool) -> None:
        if moves:
            self.moves += count
            self.moving[name] = None
        else:
            self.stays += count


def _joined(places: Mapping[tuple[str, int | None], _Place]) -> Iterator[Group]:
    run: list[tuple[str, int | None, _Place]] = []
    for (name, index), place in [*places.items(), (("", None), None)]:
        if run:
            above, last, like = run[-1]
            if place is not None and index is not None and (above, last) == (name, index - 1) and place == like:
                run.append((name, index, place))
                continue
            first = run[0][1]
            numbers = f"{first}" if len(run) == 1 else f"{first}-{last}"
            label = above if first is None else f"{above}{numbers}.*"
            yield Group(label, len(run) * like.moves, len(run) * like.stays, tuple(like.moving))
        if place is not None:
            run = [(name, index, place)]
