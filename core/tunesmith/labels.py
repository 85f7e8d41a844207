"""Labels of rows: their names, in the order in which a head tells them apart, and what can be wrong with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tunesmith.errors import DataError

if TYPE_CHECKING:
    from tunesmith.context import Context
    from tunesmith.records import Dataset, Records

#: The column that holds the labels of a row, for each record type that has them.
LABEL_COLUMNS = {"text-label": "label", "text-labels": "labels", "tokens-tags": "tags"}
#: The heads whose outputs are labels.
LABEL_HEADS = ("sequence-labels", "token-labels")
SHOWN = 5  # labels and rows named in a message


@dataclass(frozen=True)
class Labels:
    """What a head tells apart.

    Args:
        names: one name an output, in the outputs' order.
        several: whether a row may have any number of them, instead of exactly one.
    """

    names: tuple[str, ...]
    several: bool = False

    def __len__(self) -> int:
        return len(self.names)

    @property
    def index(self) -> dict[str, int]:
        """The place of each name."""
        return {name: place for place, name in enumerate(self.names)}

    def describe(self) -> dict[str, Any]:
        """The labels as JSON-ready data."""
        return {"names": list(self.names), "several": self.several}

    @classmethod
    def read(cls, described: Mapping[str, Any]) -> Labels:
        """What `describe` gave."""
        return cls(tuple(str(name) for name in described["names"]), bool(described["several"]))


def label_name(value: Any) -> str:
    """What a label is called: text as it is, a whole number without a point, true and false in lower case."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def names_of(row: Mapping[str, Any], record_type: str) -> list[str]:
    """The names of a row's labels: one, any number, or one a token."""
    value = row[LABEL_COLUMNS[record_type]]
    return [label_name(value)] if record_type == "text-label" else [label_name(item) for item in value]


def labels_of(data: Dataset) -> Labels | None:
    """The labels of a data set: those that its loader names, else those of its training rows, sorted.

    Numbers are sorted by value. None for rows of a type without labels.
    """
    if data.type not in LABEL_COLUMNS:
        return None
    found = {name for _, row in data.train for name in names_of(row, data.type)}
    return Labels(data.labels or tuple(_sorted(found)), several=data.type == "text-labels")


def check_labels(data: Dataset, context: Context) -> None:
    """Refuse labels that nothing can be learnt from, and say what else there is to know about them.

    Raises:
        DataError: there are fewer than two (or none, where a row may have several), or more held-out rows than may be
            lost have a label that no training row has.
    """
    labels = labels_of(data)
    if labels is None:
        return
    rows = _rows_of(data.train, data.type)
    fewest = 1 if labels.several else 2
    if len(rows) < fewest:
        told = f"every training row has the label {next(iter(rows))!r}" if rows else "no training row has a label"
        raise DataError(
            f"{told}: there is nothing to tell apart",
            fix="Give rows of at least two labels, or name another label column with `columns` in [data].",
        )
    counts = sorted(rows.values())
    told = f"{len(labels)} labels, {counts[0]} to {counts[-1]} training rows each"
    if alone := [name for name, count in rows.items() if count == 1]:
        told += f"; one row only: {_listed(alone)}"
    context.reporter.say(told)
    if lacking := [name for name in labels.names if name not in rows]:
        context.reporter.warn(f"no training row has {_listed(lacking)}, which `label_names` names")
    _check_held_out(data, labels, context)


def _check_held_out(data: Dataset, labels: Labels, context: Context) -> None:
    known = labels.index
    unknown: dict[str, list[str]] = {}
    strange = 0
    for row_id, row in data.validation:
        missing = [name for name in names_of(row, data.type) if name not in known]
        strange += bool(missing)
        for name in dict.fromkeys(missing):
            unknown.setdefault(name, []).append(row_id)
    if not unknown:
        return
    told = f"{strange} of {len(data.validation)} held-out rows have a label that no training row has"
    details = [f"{name!r}: {len(ids)} rows: {_listed(ids, plain=True)}" for name, ids in list(unknown.items())[:SHOWN]]
    if strange > context.max_lost_rows * len(data.validation):
        raise DataError(
            told,
            details=details,
            fix="Mend the labels, give training rows that have them, or allow more with `[run] max_lost_rows = SHARE`.",
        )
    context.reporter.warn(f"{told}; they count as wrong ({'; '.join(details)})")


def _rows_of(records: Records, record_type: str) -> Counter[str]:
    """How many rows have each label."""
    counts: Counter[str] = Counter()
    for _, row in records:
        counts.update(set(names_of(row, record_type)))
    return counts


def _sorted(names: Iterable[str]) -> list[str]:
    found = list(names)
    if all(name.removeprefix("-").isdecimal() for name in found):
        return sorted(found, key=int)
    return sorted(found)


def _listed(names: Iterable[str], *, plain: bool = False) -> str:
    found = list(names)
    shown = [name if plain else repr(name) for name in found[:SHOWN]]
    return ", ".join(shown) + (", ..." if len(found) > SHOWN else "")
