"""Runs beside each other: measured on the same rows, tested in pairs, with what each of them cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tunesmith.artifact import load_artifact
from tunesmith.context import Context
from tunesmith.errors import DataError, UsageError, nearest
from tunesmith.folder import RunFolder
from tunesmith.held_out import evaluate, measurable
from tunesmith.paired import Moved, compare_measures
from tunesmith.plan import Plan, StagePlan
from tunesmith.records import Dataset
from tunesmith.registry import Registry
from tunesmith.roles import with_models
from tunesmith.stage import load_data, stage_folder

#: What the model of the first run was before its training.
BASE = "base"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One of the models that are compared.

    Args:
        name: the run's, or `base`.
        run: its folder; None for the base.
        measures: by name, as plain data.
        cost: what the run took: `trainable_parameters`, `steps`, `tokens`, `train_seconds`, `seconds`, `memory`.
        again: whether it was measured again, because the run itself measured other rows or by other evaluators.
    """

    name: str
    run: Path | None
    measures: Mapping[str, Mapping[str, Any]]
    cost: Mapping[str, Any] = field(default_factory=dict)
    again: bool = False

    def describe(self) -> dict[str, Any]:
        """The entry as JSON-ready data."""
        return {
            "name": self.name,
            "run": str(self.run) if self.run else None,
            "measures": dict(self.measures),
            "cost": dict(self.cost),
            "again": self.again,
        }


@dataclass(frozen=True, kw_only=True)
class RunComparison:
    """Runs beside each other; `moved` holds, by name, what every other one is against `against`."""

    entries: tuple[Entry, ...]
    against: str
    moved: Mapping[str, Sequence[Moved]]

    def describe(self) -> dict[str, Any]:
        """The comparison as JSON-ready data."""
        return {
            "against": self.against,
            "entries": [entry.describe() for entry in self.entries],
            "moved": {name: [one.describe() for one in found] for name, found in self.moved.items()},
        }


def compare_runs(
    runs: Sequence[Path],
    artifact_of: Callable[[Path], Path],
    plan_of: Callable[[Path], tuple[Plan, StagePlan, Registry, Context]],
    *,
    against: str | None = None,
) -> RunComparison:
    """Put finished runs beside each other, on the held-out rows of the first.

    A run that measured the same rows by the same evaluators keeps its figures; any other is measured again, on the
    rows of the first and by its evaluators.

    Args:
        artifact_of: the artifact that a run kept.
        plan_of: the plan of a run, the stage that is meant, its plugins and surroundings; called for the first run, and
            only where another one must be measured.
        against: the entry that every other one is compared with; None takes the base, or the first run where that was
            not measured.

    Raises:
        DataError: a run is not finished, or nothing was held out.
        UsageError: there is no entry `against`.
    """
    names = _names(runs)
    first = _result(runs[0])
    if not first["after"].get("measures"):
        raise DataError(
            f"run {runs[0].name} has measured nothing that others could be compared on",
            where=str(runs[0]),
            fix="Set `validation = 0.1` in [data] and run it again, or name another run first.",
        )
    entries = [Entry(name=names[0], run=runs[0], measures=first["after"]["measures"], cost=_cost(first))]
    wanted = list(first["after"]["measures"])
    again: _Again | None = None
    for name, run in zip(names[1:], runs[1:], strict=True):
        result = _result(run)
        measures = result["after"].get("measures", {})
        same = result.get("held_out") == first.get("held_out") and set(wanted) <= set(measures)
        if not same:
            again = again or _Again(runs[0], *plan_of(runs[0]))
            measures = again.measure(artifact_of(run))
        kept = {key: measures[key] for key in wanted if key in measures}
        entries.append(Entry(name=name, run=run, measures=kept, cost=_cost(result), again=not same))
    before = first["before"].get("measures", {})
    if before:
        entries.insert(0, Entry(name=BASE, run=None, measures=before))
    chosen = against or entries[0].name
    ways = {key: entry for entry in entries for key in (entry.name, str(entry.run))}
    if chosen not in ways:
        near = nearest(chosen, [entry.name for entry in entries])
        raise UsageError(
            f"--against {chosen}: that is not compared here",
            fix=f"Did you mean {near!r}?" if near else f"There are: {', '.join(entry.name for entry in entries)}.",
        )
    base = ways[chosen]
    seed = RunFolder.open(runs[0]).manifest["plan"]["run"]["seed"]
    moved = {
        entry.name: compare_measures(base.measures, entry.measures, seed) for entry in entries if entry is not base
    }
    return RunComparison(entries=tuple(entries), against=base.name, moved=moved)


def measure_artifact(
    artifact: Path, data: Dataset, stage: StagePlan, run: Path, registry: Registry, context: Context
) -> dict[str, Any]:
    """Run a stage's evaluators on an artifact, whichever run made it: as `held_out.evaluate`.

    Args:
        run: the stage's own, where the earlier stages are whose models the evaluators need.
    """
    context.reporter.phase("load model")
    adapted = load_artifact(artifact, registry, context)
    earlier = {role.stage for use in stage.evaluators for role in use.roles.values() if role.stage}
    kept = {name: stage_folder(run, name) / "artifact" for name in earlier}
    evaluators = with_models(stage.evaluators, kept, registry, context)
    context.reporter.phase("evaluate")
    with adapted.use() as model:
        return evaluate(evaluators, replace(adapted.handle, model=model), data, context)


class _Again:
    """Measures artifacts on the rows of one run, which are loaded once."""

    def __init__(self, run: Path, plan: Plan, stage: StagePlan, registry: Registry, context: Context) -> None:
        self.run, self.registry, self.context = run, registry, context
        context.reporter.phase("load data")
        self.data = load_data(stage, context)
        self.stage = replace(stage, evaluators=measurable(stage, self.data, context))

    def measure(self, artifact: Path) -> dict[str, Any]:
        context = self.context.with_(stage_folder=artifact.parent)
        return measure_artifact(artifact, self.data, self.stage, self.run, self.registry, context)["measures"]


def _result(run: Path) -> dict[str, Any]:
    """The last stage's result.

    Raises:
        DataError: `run` is no run folder, or is not done.
    """
    folder = RunFolder.open(run)
    if folder.status != "done" or not folder.results:
        raise DataError(
            f"run {run.name} is {folder.status}, and only finished runs can be compared",
            where=str(run),
            fix=f"tunesmith resume {run}",
        )
    return list(folder.results.values())[-1]


def _cost(result: Mapping[str, Any]) -> dict[str, Any]:
    training = result.get("training", {})
    return {
        "trainable_parameters": training.get("trainable_parameters"),
        "steps": training.get("steps"),
        "tokens": training.get("tokens"),
        "train_seconds": training.get("seconds"),
        "seconds": round(sum(result.get("seconds", {}).values()), 3),
        "memory": result.get("memory") or None,
    }


def _names(runs: Sequence[Path]) -> list[str]:
    """What each run is called: the name of its folder, or the whole path where two have one name."""
    short = [run.resolve().name for run in runs]
    return [
        name if short.count(name) == 1 and name != BASE else str(run) for name, run in zip(short, runs, strict=True)
    ]
