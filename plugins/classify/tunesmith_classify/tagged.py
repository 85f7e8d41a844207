"""The measures of tagged words: by word, and by entity where the tags mark where one begins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np

from tunesmith import Evaluation, Measure, Sample
from tunesmith.calibration import expected_error, reliability
from tunesmith.stats import bootstrap_ratio
from tunesmith_classify.judged import ONE
from tunesmith_classify.measures import Hits, measured
from tunesmith_classify.settings import MeasureSettings
from tunesmith_classify.tables import by_label, calibration_curve, confusion_matrix, confusions

Array = np.ndarray[Any, Any]
Entity = tuple[str, int, int]

OUTSIDE = "O"


def tagged_words(
    probabilities: Sequence[Array],
    targets: Sequence[Sequence[int]],
    rows: Sequence[tuple[str, Sequence[str]]],
    names: Sequence[str],
    settings: MeasureSettings,
    seed: int,
) -> Evaluation:
    """`accuracy` of words, averages over tags, and `entity_f1` for tags written B-X, I-X and O.

    Intervals are bootstraps over rows, since the words of one row hang together.

    Args:
        probabilities: for each row (W, L), a row of L tags for each of its words.
        targets: for each row the place of each word's tag in `names`.
        rows: name and words of each.
    """
    given = [row.argmax(axis=1).tolist() for row in probabilities]
    right = [[one == other for one, other in zip(*pair, strict=True)] for pair in zip(targets, given, strict=True)]
    accuracy = _ratio([sum(row) for row in right], [len(row) for row in right], seed)
    flat_targets, flat_given = list(chain(*targets)), list(chain(*given))
    sure = list(chain(*(row.max(axis=1).tolist() for row in probabilities)))
    bins = reliability(sure, list(map(float, chain(*right))), settings.bins)
    measures = {"accuracy": accuracy, **measured(Hits.of_places(targets, given, len(names)), ONE, seed)}
    if any(name.startswith("B-") for name in names):
        measures["entity_f1"] = _entity_f1(targets, given, names, seed)
    measures["calibration_error"] = Measure(value=expected_error(bins), better="lower", n=len(sure))
    wrong = [place for place, row in enumerate(right) if not all(row)][: settings.samples]
    return Evaluation(
        measures=measures,
        samples=tuple(
            Sample(
                row=rows[place][0],
                prompt=" ".join(rows[place][1]),
                answer=" ".join(names[tag] for tag in given[place]),
                reference=" ".join(names[tag] for tag in targets[place]),
            )
            for place in wrong
        ),
        curves=(calibration_curve(bins),),
        tables=(
            by_label(flat_targets, flat_given, names),
            *confusions(flat_targets, flat_given, names, settings.confusions),
        ),
        matrices=(confusion_matrix(flat_targets, flat_given, names),),
    )


def entities(tags: Sequence[str]) -> Iterator[Entity]:
    """The entities of a row as (kind, first word, word behind the last): B-X begins one, I-X goes on with it.

    An I-X that goes on with nothing begins an entity, as in CoNLL's own evaluation.
    """
    kind, first = "", 0
    for place, tag in enumerate([*tags, OUTSIDE]):
        mark, _, this = tag.partition("-")
        goes_on = mark == "I" and this == kind
        if kind and not goes_on:
            yield kind, first, place
            kind = ""
        if mark in ("B", "I") and not goes_on:
            kind, first = this, place


def _entity_f1(
    targets: Sequence[Sequence[int]], given: Sequence[Sequence[int]], names: Sequence[str], seed: int
) -> Measure:
    """2 x right / (given + wanted): an entity is right when its kind and both its ends are."""
    above, below = [], []
    for pair in zip(targets, given, strict=True):
        wanted, said = (set(entities([names[tag] for tag in row])) for row in pair)
        above.append(2.0 * len(wanted & said))
        below.append(float(len(wanted) + len(said)))
    if not sum(below):
        return Measure(value=1.0, better="higher", n=len(above))  # none is there, and none was given
    return _ratio(above, below, seed)


def _ratio(above: Sequence[float], below: Sequence[float], seed: int) -> Measure:
    value, low, high = bootstrap_ratio(above, below, seed=seed)
    per_row = tuple(a / b if b else 0.0 for a, b in zip(above, below, strict=True))
    weights = tuple(map(float, below))
    return Measure(value=value, low=low, high=high, n=len(above), better="higher", per_row=per_row, weights=weights)
