"""From probabilities and labels to an `Evaluation`, whichever model gave them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tunesmith import Evaluation, Measure, Sample
from tunesmith.calibration import expected_error, reliability
from tunesmith.stats import bootstrap_mean
from tunesmith_classify.measures import Hits, measured
from tunesmith_classify.settings import MeasureSettings
from tunesmith_classify.tables import by_label, calibration_curve, confusion_matrix, confusions

Array = np.ndarray[Any, Any]

ONE = ("f1_macro", "f1_weighted", "precision_macro", "precision_weighted", "recall_macro")
SEVERAL = ("f1_micro", *ONE, "recall_weighted")


def one_label(
    probabilities: Array,
    targets: Sequence[int],
    rows: Sequence[tuple[str, str]],
    names: Sequence[str],
    settings: MeasureSettings,
    seed: int,
) -> Evaluation:
    """The measures of texts with one label each.

    `recall_weighted` is the accuracy, and is not told twice.

    Args:
        probabilities: (N, L) of the labels that the model knows, the first L of `names`.
        targets: the place of each row's label in `names`; it may be one that the model does not know.
        rows: name and text of each, for samples.
    """
    given = probabilities.argmax(axis=1).tolist()
    sure = probabilities.max(axis=1).tolist()
    right = [float(one == other) for one, other in zip(targets, given, strict=True)]
    bins = reliability(sure, right, settings.bins)
    hits = Hits.of_places([[target] for target in targets], [[place] for place in given], len(names))
    return Evaluation(
        measures={
            "accuracy": mean(right, seed),
            **measured(hits, ONE, seed),
            "calibration_error": Measure(value=expected_error(bins), better="lower", n=len(right)),
        },
        samples=_samples(given, targets, sure, rows, names, settings.samples),
        curves=(calibration_curve(bins),),
        tables=(by_label(targets, given, names), *confusions(targets, given, names, settings.confusions)),
        matrices=(confusion_matrix(targets, given, names),),
    )


def several_labels(
    probabilities: Array,
    targets: Array,
    rows: Sequence[tuple[str, str]],
    names: Sequence[str],
    settings: MeasureSettings,
    threshold: float,
    seed: int,
) -> Evaluation:
    """The measures of texts with any number of labels; `exact_match` is the share whose labels are all right.

    Calibration is over single decisions: a label's confidence is the probability of what was decided for it.

    Args:
        probabilities: (N, L) that each label is given.
        targets: (N, L) zeros and ones.
        threshold: probability from which a label counts as given.
    """
    given = probabilities >= threshold
    right = (given == targets.astype(bool)).all(axis=1).astype(float).tolist()
    sure = np.where(given, probabilities, 1 - probabilities)
    bins = reliability(
        sure.flatten().tolist(), (given == targets.astype(bool)).flatten().astype(float).tolist(), settings.bins
    )
    wrong = sorted((i for i, ok in enumerate(right) if not ok), key=lambda i: -float(sure[i].min()))[: settings.samples]

    def listed(row: Array) -> str:
        return ", ".join(names[place] for place in np.flatnonzero(row).tolist()) or "(no label)"

    return Evaluation(
        measures={
            "exact_match": mean(right, seed),
            **measured(Hits.of_sets(targets, given), SEVERAL, seed),
            "calibration_error": Measure(value=expected_error(bins), better="lower", n=len(right)),
        },
        samples=tuple(
            Sample(row=rows[i][0], prompt=rows[i][1], answer=listed(given[i]), reference=listed(targets[i]))
            for i in wrong
        ),
        curves=(calibration_curve(bins),),
        tables=(by_label(targets.astype(int), given.astype(int), names),),
    )


def mean(values: Sequence[float], seed: int) -> Measure:
    """A mean over rows with its 95 % bootstrap interval."""
    value, low, high = bootstrap_mean(values, seed=seed)
    return Measure(value=value, low=low, high=high, n=len(values), better="higher", per_row=tuple(values))


def _samples(
    given: Sequence[int],
    targets: Sequence[int],
    sure: Sequence[float],
    rows: Sequence[tuple[str, str]],
    names: Sequence[str],
    most: int,
) -> tuple[Sample, ...]:
    """The wrongly labelled rows of which the model is surest: often it is the data that is wrong."""
    wrong = sorted((i for i in range(len(rows)) if given[i] != targets[i]), key=lambda i: (-sure[i], i))[:most]
    return tuple(
        Sample(
            row=rows[i][0],
            prompt=rows[i][1],
            answer=f"{names[given[i]]} ({sure[i]:.0%})",
            reference=names[targets[i]],
        )
        for i in wrong
    )
