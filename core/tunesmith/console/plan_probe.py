"""What `tunesmith plan --probe` prints: the parameters that move and those that stay."""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith.console.opened import context_of
from tunesmith.console.out import data_console, safe, size
from tunesmith.console.progress import reporter
from tunesmith.plan import Plan
from tunesmith.probe import Group, Probe, probe
from tunesmith.registry import Registry

SHOWN = 8  # modules of a group in which something moves


def probed(plan: Plan, registry: Registry) -> dict[str, list[Probe]]:
    """The probes of each stage, by name.

    Raises:
        TunesmithError: a model cannot be had, or an adapter does not fit it.
    """
    found = {}
    with reporter() as talk:
        context = context_of(plan, talk)
        for stage in plan.stages:
            talk.phase(f"probe {stage.name}" if len(plan.stages) > 1 else "probe")
            found[stage.name] = probe(plan, stage, registry, context)
    return found


def draw(stage: str, probes: Sequence[Probe]) -> None:
    """Print one table a role.

    Args:
        stage: its name, empty where there is only one.
    """
    from rich import box
    from rich.table import Table

    console = data_console()
    for found in probes:
        table = Table(box=box.SIMPLE_HEAD, title_justify="left", padding=(0, 1), expand=False)
        title = " · ".join(part for part in (stage, found.role if len(probes) > 1 else "") if part)
        if title:
            table.title = safe(title, "bold")
        table.add_column("parameters", no_wrap=True)
        table.add_column("move", justify="right", no_wrap=True)
        table.add_column("stay", justify="right", no_wrap=True)
        table.add_column("what moves")
        for group in found.groups:
            told = _modules(group) if group.stays else "all" if group.moves else ""
            table.add_row(safe(group.name), f"{group.moves:,}", f"{group.stays:,}", safe(told))
        console.print(table)
        console.print(
            safe(
                f"{found.adapter} moves {found.moves:,} of {found.total:,} parameters ({found.moves / found.total:.2%})"
            )
        )
        console.print(
            safe(f"memory: {size(found.memory)} for weights, gradients and two moments; activations come on top")
        )


def _modules(group: Group) -> str:
    """Where in a block something moves, by the first two parts of the names."""
    names = list(dict.fromkeys(".".join(name.split(".")[:2]) for name in group.moving))
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
