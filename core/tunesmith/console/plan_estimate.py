"""What `tunesmith plan` prints of memory and time: what is estimated and, with --probe, what a few steps took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tunesmith.console.opened import context_of
from tunesmith.console.out import data_console, safe, seconds, size
from tunesmith.console.progress import reporter
from tunesmith.context import SilentReporter
from tunesmith.errors import MemoryExhausted, UsageError
from tunesmith.estimate import Estimate
from tunesmith.estimating import Unknown, check_fits, estimate
from tunesmith.plan import Plan, StagePlan
from tunesmith.probe import Probe
from tunesmith.registry import Registry
from tunesmith.rehearsal import Rehearsal, rehearse

#: What of the estimate stands beside each thing that can be measured.
MEASURED = {"process": ("process",), "with the model": ("process", "data", "weights", "adapter")}


def comparison(made: Estimate, tried: Rehearsal) -> list[dict[str, Any]]:
    """Estimate and measurement side by side: `what`, `unit`, `estimate`, `measured`, `difference` (a share)."""
    rows: list[tuple[str, str, float, float]] = [
        (what, "bytes", sum(made.parts[part] for part in parts), measured)
        for (what, parts), measured in zip(MEASURED.items(), (tried.process, tried.loaded), strict=True)
        if measured
    ]
    rows.append(("peak", "bytes", made.peak, tried.memory))
    if made.step_seconds is not None and made.seconds is not None:
        rows.append(("a step", "seconds", made.step_seconds, tried.step_seconds))
        rows.append(("whole training", "seconds", made.seconds, tried.step_seconds * made.steps))
    return [
        {"what": what, "unit": unit, "estimate": told, "measured": found, "difference": told / found - 1}
        for what, unit, told, found in rows
    ]


@dataclass(frozen=True)
class Outlook:
    """What a stage will take.

    Args:
        tried: what a few steps took, with --probe.
        refused: why it cannot fit.
        warning: why it may not.
    """

    made: Estimate | Unknown
    tried: Rehearsal | None = None
    refused: MemoryExhausted | None = None
    warning: str | None = None

    def describe(self) -> dict[str, Any]:
        """The outlook as JSON-ready data."""
        if isinstance(self.made, Unknown):
            return {"unknown": self.made.reason}
        told = {**self.made.describe(), "fits": self.refused is None, "warning": self.warning}
        return {**told, "measured": comparison(self.made, self.tried)} if self.tried else told

    def check(self) -> None:
        """Refuse what cannot fit.

        Raises:
            MemoryExhausted: it cannot.
        """
        if self.refused is not None:
            raise self.refused


def outlook(plan: Plan, stage: StagePlan, registry: Registry, probes: Sequence[Probe]) -> Outlook:
    """Estimate a stage; with the probes of its parameters a few steps are tried too, unless it cannot fit.

    Raises:
        TunesmithError: the steps ended in it.
    """
    context = context_of(plan, SilentReporter())
    found = probes[0] if probes else None
    made = estimate(plan, stage, context, found=found)
    tried = None
    if found is not None:
        _judged(made, stage, plan).check()
        disable = {problem.plugin.name for problem in registry.problems if problem.disabled}
        with reporter() as talk:
            talk.phase(f"a few steps of stage {stage.name}" if len(plan.stages) > 1 else "a few steps")
        try:
            tried = rehearse(plan, stage, sorted(disable))
        except UsageError as error:
            return replace(_judged(made, stage, plan), warning=str(error))
        made = estimate(plan, stage, context, lengths=tried.lengths, found=found, speed=tried.speed)
    return replace(_judged(made, stage, plan), tried=tried)


def _judged(made: Estimate | Unknown, stage: StagePlan, plan: Plan) -> Outlook:
    if isinstance(made, Unknown) or plan.launcher is not None:  # launched, it need not fit this machine
        return Outlook(made)
    try:
        return Outlook(made, warning=check_fits(made, stage, plan))
    except MemoryExhausted as error:
        return Outlook(made, refused=error)


def draw(title: str, found: Outlook, by_module: bool) -> None:
    """Print the estimate of one stage.

    Args:
        title: the stage's name, empty where there is only one.
        by_module: whether the trained parameters of each module are shown too.
    """
    console = data_console()
    made, tried = found.made, found.tried
    if isinstance(made, Unknown):
        console.print(safe(f"no estimate of memory and time: {made.reason}", "dim"))
        return
    if by_module:
        moving = sum(made.modules.values())
        table = _table(title, "trained parameters", "")
        for name, count in made.modules.items():
            table.add_row(safe(name), f"{count:,}")
        table.add_row(safe("all"), f"{moving:,} of {made.parameters:,} ({moving / made.parameters:.2%})")
        console.print(table)
    table = _table("" if by_module else title, "memory", "estimate")
    for name, count in made.parts.items():
        if count:
            table.add_row(safe(name), size(count))
    table.add_row(safe(f"at the peak ({made.phase})"), size(made.peak), style="bold")
    console.print(table)
    longest = made.longest
    console.print(
        safe(f"the longest batch: {longest.rows} rows of {longest.tokens} tokens, {longest.supervised} trained")
    )
    if made.seconds is not None and made.step_seconds is not None:
        console.print(safe(f"time: {made.steps:,} steps of {made.step_seconds:.2f} s: about {seconds(made.seconds)}"))
    if tried is not None:
        table = _table("", "probe", "estimate", "measured", "difference")
        for row in comparison(made, tried):
            shown = size if row["unit"] == "bytes" else lambda value: f"{value:.2f} s"
            table.add_row(
                safe(row["what"]), shown(row["estimate"]), shown(row["measured"]), f"{row['difference']:+.1%}"
            )
        console.print(table)
    for note in made.notes:
        console.print(safe(note, "dim"))
    if found.warning:
        console.print(safe(found.warning, "yellow"))


def _table(title: str, *columns: str) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title_justify="left", padding=(0, 1), expand=False)
    if title:
        table.title = safe(title, "bold")
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number else "left", no_wrap=True)
    return table
