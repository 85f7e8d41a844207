"""What a comparison came to: one `Method` an adapter, the unadapted model among them, best first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tunesmith.artifact import CARD
from tunesmith.comparison.candidates import Candidate
from tunesmith.comparison.change import Change, change
from tunesmith.comparison.job import GENERAL
from tunesmith.comparison.settings import BASE
from tunesmith.folder import RunFolder, parsed_file
from tunesmith.store import DIGESTS

#: Files of an artifact that are the same for every method.
COMMON = {CARD, DIGESTS, "README.md"}


@dataclass(frozen=True, kw_only=True)
class Method:
    """One line of the table.

    Args:
        status: `done`, `failed`, or `waiting` when the comparison was stopped before it.
        settings: those of its adapter, all of them; empty for the base.
        changes: other keys of the recipe that differ.
        measures: those of the recipe's evaluators, by name, as plain data.
        general: those of the text from elsewhere.
        general_change: change of the first of these against the base, in per cent.
        memory: `bytes` at the peak, and `of`: `process` or a GPU.
        train_seconds: of the optimizer steps alone; `seconds` is the whole run.
        size: of what the adapter saved, in bytes.
    """

    name: str
    status: str = "done"
    adapter: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    changes: Mapping[str, Any] = field(default_factory=dict)
    run: str | None = None
    error: Mapping[str, Any] | None = None
    measures: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    general: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    general_change: Change | None = None
    steps: int = 0
    trainable_parameters: int = 0
    parameters: int = 0
    memory: Mapping[str, Any] = field(default_factory=dict)
    train_seconds: float = 0.0
    seconds: float = 0.0
    size: int = 0


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A whole comparison; `folder` holds it as comparison.json, comparison.md and comparison.svg."""

    recipe: str
    folder: Path
    created: str
    environment: Mapping[str, Any]
    base: Method
    methods: tuple[Method, ...]

    @property
    def measure(self) -> str:
        """The measure by which methods are ranked: the first of the recipe's first evaluator."""
        return next(iter(self.base.measures))

    @property
    def general_measure(self) -> str | None:
        """The measure of general ability; None when it was not measured."""
        return next(iter(self.base.general), None)

    @property
    def done(self) -> list[Method]:
        """The base and the finished methods, best first."""
        found = [self.base, *(method for method in self.methods if method.status == "done")]
        sign = -1 if self.base.measures[self.measure]["better"] == "higher" else 1

        def worst_last(method: Method) -> tuple[bool, float]:
            value = method.measures[self.measure]["value"]
            return math.isnan(value), sign * value

        return sorted(found, key=worst_last)

    @property
    def undone(self) -> list[Method]:
        """The methods that failed or were not reached, in their order."""
        return [method for method in self.methods if method.status != "done"]

    @property
    def steps(self) -> list[int]:
        """The numbers of steps that were really trained; one of them when the budget was equal."""
        return sorted({method.steps for method in self.methods if method.status == "done"})

    def describe(self) -> dict[str, Any]:
        """The comparison as JSON-ready data."""
        return {
            "folder": str(self.folder),
            "recipe": self.recipe,
            "created": self.created,
            "measure": self.measure,
            "general_measure": self.general_measure,
            "base": asdict(self.base),
            "methods": [asdict(method) for method in self.methods],
            "environment": dict(self.environment),
        }


def base_method(found: Mapping[str, Any]) -> Method:
    """The unadapted model, from what its child wrote."""
    measured = found["general"].get("measures", {})
    first = next(iter(measured.values()), None)
    still: Change | None = {"value": 0.0, "low": None, "high": None} if first else None
    return Method(
        name=BASE,
        measures=found["measures"],
        general=measured,
        general_change=still,
        parameters=found["parameters"],
        memory=found["memory"],
        seconds=found["seconds"],
    )


def unfinished(candidate: Candidate, status: str, error: Mapping[str, Any] | None = None) -> Method:
    """A method without figures."""
    adapter = candidate.stage.main_role.adapter
    assert adapter is not None
    return Method(
        name=candidate.name,
        status=status,
        adapter=adapter.component.name,
        settings=adapter.describe()["settings"],
        changes=candidate.changes,
        error=error,
    )


def finished(candidate: Candidate, run: Path, base: Method) -> Method:
    """A method's figures, from its run folder."""
    folder = RunFolder.open(run)
    (result,) = folder.results.values()
    training = result["training"]
    if next(iter(base.measures)) not in result["after"]["measures"]:
        what = f"its run did not measure {next(iter(base.measures))!r}, by which methods are ranked"
        fix = "Leave [[evaluate]] out of its `set`."
        return unfinished(
            candidate, "failed", {"what": what, "where": None, "fix": fix, "details": [], "exit_code": 78}
        )
    found = read_general(run).get("measures", {})
    name = next(iter(base.general), None)
    moved = change(base.general[name], found[name], candidate.plan.run.seed) if name and name in found else None
    described = {**vars(unfinished(candidate, "done")), "run": str(run)}
    return Method(
        **{
            **described,
            "measures": result["after"]["measures"],
            "general": found,
            "general_change": moved,
            "steps": training["steps"],
            "trainable_parameters": training["trainable_parameters"],
            "parameters": training["parameters"],
            "memory": result["memory"],
            "train_seconds": training["seconds"],
            "seconds": round(sum(result["seconds"].values()), 3),
            "size": size_of(run / "artifact"),
        }
    )


def read_general(run: Path) -> dict[str, Any]:
    """What was measured on the text from elsewhere after a run; empty when nothing was, or it is damaged."""
    return parsed_file(run / GENERAL)


def size_of(artifact: Path) -> int:
    """Bytes that the adapter saved, without what every artifact has."""
    return sum(path.stat().st_size for path in artifact.rglob("*") if path.is_file() and path.name not in COMMON)
