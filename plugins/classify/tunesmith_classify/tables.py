"""What the report prints and draws of a classifier: figures by label, confusions, the confusion matrix, calibration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from sklearn.metrics import precision_recall_fscore_support

from tunesmith import Curve, Matrix, Table
from tunesmith.calibration import Bin

DIGITS = 4


def by_label(targets: Any, given: Any, names: Sequence[str]) -> Table:
    """Precision, recall and F1 of each label, and how many of what was labelled have it.

    Args:
        targets, given: places of labels (N,), or zeros and ones (N, L) where each may have several.
    """
    figures = precision_recall_fscore_support(targets, given, labels=range(len(names)), zero_division=0)
    rows = [
        (name, *(round(float(value), DIGITS) for value in values), int(count))
        for name, *values, count in zip(names, *figures, strict=True)
    ]
    return Table(name="labels", heads=("label", "precision", "recall", "f1", "rows"), rows=tuple(rows))


def confusions(targets: Sequence[int], given: Sequence[int], names: Sequence[str], most: int) -> tuple[Table, ...]:
    """The most frequent confusions; none where nothing is confused."""
    pairs = Counter((one, other) for one, other in zip(targets, given, strict=True) if one != other)
    ordered = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))[:most]
    rows = tuple((names[one], names[other], count) for (one, other), count in ordered)
    return (Table(name="confusions", heads=("label", "predicted", "rows"), rows=rows),) if rows else ()


def confusion_matrix(targets: Sequence[int], given: Sequence[int], names: Sequence[str]) -> Matrix:
    """How many of each label were given each label."""
    pairs = Counter(zip(targets, given, strict=True))
    places = range(len(names))
    values = tuple(tuple(pairs[one, other] for other in places) for one in places)
    return Matrix(
        name="confusion matrix", x="predicted", y="label", columns=tuple(names), rows=tuple(names), values=values
    )


def calibration_curve(bins: Sequence[Bin]) -> Curve:
    """Accuracy against confidence."""
    points = tuple((item.confidence, item.accuracy) for item in bins)
    return Curve(name="calibration", x="confidence", points=points, ideal=((0.0, 0.0), (1.0, 1.0)))
