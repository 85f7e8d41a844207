"""Measures of each task of a mixture, out of the values of the single rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from tunesmith.paired import gives
from tunesmith.records import Dataset
from tunesmith.results import Measure
from tunesmith.stats import bootstrap_ratio


def tasks_of(data: Dataset) -> dict[str, str]:
    """The task of each held-out row by its name; empty where there are not several."""
    if not data.task:
        return {}
    found = {name: str(row[data.task]) for name, row in data.validation if data.task in row}
    return found if len(set(found.values())) > 1 else {}


def by_task(measures: Mapping[str, Measure], tasks: Mapping[str, str], seed: int) -> dict[str, Measure]:
    """`NAME/TASK` of each measure whose rows have names, and which is their weighted mean or its exponential.

    Args:
        tasks: as `tasks_of` gives them.
    """
    found: dict[str, Measure] = {}
    for name, measure in measures.items():
        weights = measure.weights or (1.0,) * len(measure.per_row)
        if not measure.rows or len(measure.rows) != len(measure.per_row) or not sum(weights):
            continue
        transform = next(
            (way for way in (float, math.exp) if gives(measure.per_row, weights, measure.value, way)), None
        )
        if transform is None:
            continue
        places: dict[str, list[int]] = {}
        for place, row in enumerate(measure.rows):
            if row in tasks:
                places.setdefault(tasks[row], []).append(place)
        for task in sorted(places):
            if sum(weights[place] for place in places[task]):
                found[f"{name}/{task}"] = _part(measure, weights, places[task], transform, seed)
    return found


def _part(
    measure: Measure, weights: Sequence[float], places: Sequence[int], transform: Callable[[float], float], seed: int
) -> Measure:
    own, counts = [measure.per_row[place] for place in places], [weights[place] for place in places]
    above = [value * count for value, count in zip(own, counts, strict=True)]
    value, low, high = bootstrap_ratio(above, counts, seed=seed, transform=transform)
    return replace(
        measure,
        value=value,
        low=low,
        high=high,
        n=len(places),
        per_row=tuple(own),
        weights=tuple(counts) if measure.weights else (),
        rows=tuple(measure.rows[place] for place in places),
        groups=tuple(measure.groups[place] for place in places) if measure.groups else (),
    )
