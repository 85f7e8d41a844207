"""What a search came to, as data, as Markdown, as a picture, and as the best recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tunesmith import findings
from tunesmith.findings import row
from tunesmith.search.plot import draw
from tunesmith.search.study import Outcome

NAME = "search"


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """One trial: its values, and what it came to, as it was measured."""

    number: int
    values: Mapping[str, Any]
    outcome: Outcome
    value: float | None = None
    run: str | None = None
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class Search:
    """A whole search.

    Args:
        measure, better: what decided, and in which direction.
        best_recipe: the recipe with the values of the best trial, beside the recipe, so that its paths mean the same.
        importances: how much each key decided, as shares of 1; empty while that cannot be said.
    """

    recipe: str
    folder: Path
    measure: str
    better: str
    trials: tuple[TrialResult, ...]
    importances: Mapping[str, float]
    best_recipe: Path

    @property
    def ranked(self) -> list[TrialResult]:
        """The trials that were measured at their end, best first; of equals the earlier."""
        done = [trial for trial in self.trials if trial.outcome == "done" and trial.value is not None]
        sign = 1 if self.better == "lower" else -1
        return sorted(done, key=lambda trial: (sign * (trial.value or 0.0), trial.number))

    @property
    def best(self) -> TrialResult | None:
        """The best trial; None while none has ended."""
        return next(iter(self.ranked), None)

    def describe(self) -> dict[str, Any]:
        """The search as JSON-ready data."""
        best = self.best
        return {
            "folder": str(self.folder),
            "recipe": self.recipe,
            "measure": self.measure,
            "better": self.better,
            "best": asdict(best) if best else None,
            "best_recipe": str(self.best_recipe) if best else None,
            "trials": [asdict(trial) for trial in self.trials],
            "importances": dict(self.importances),
        }


def write(search: Search) -> None:
    """Write search.json, search.md and search.svg into the search's folder.

    Raises:
        DiskError: they cannot be written.
    """
    findings.write(search.folder, NAME, search.describe(), markdown(search), draw(search))


def markdown(search: Search) -> str:
    """The trials best first, what each key decided, and the picture."""
    keys = list(search.trials[0].values) if search.trials else []
    heads = ["trial", search.measure or "value", *keys, "outcome"]
    lines = [row(heads), "| --- |" + " ---: |" * (len(keys) + 1) + " --- |"]
    rest = [trial for trial in search.trials if trial not in search.ranked]
    for trial in (*search.ranked, *rest):
        value = "" if trial.value is None else f"{trial.value:.4g}"
        cells = [shown(trial.values[key]) for key in keys]
        lines.append(row([str(trial.number + 1), value, *cells, trial.outcome]))
    if search.importances:
        lines += ["", row(["key", "share of what decided"]), "| --- | ---: |"]
        lines += [row([key, f"{share:.0%}"]) for key, share in search.importances.items()]
    return "\n".join([*lines, "", f"![history and importance]({NAME}.svg)", ""])


def shown(value: Any) -> str:
    """A value as a person reads it."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
