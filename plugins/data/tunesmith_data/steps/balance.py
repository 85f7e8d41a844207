"""The step `balance`: how many rows each class has, and what can be done about it."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from tunesmith import Context, DataError, Row, Spool
from tunesmith_data.steps.settings import BalanceSettings


class Balance:
    """Counts the classes of the training rows, and weighs or draws rows so that they count alike."""

    def __init__(self, settings: BalanceSettings, context: Context) -> None:
        self.settings = settings
        self.context = context
        self.counts: Counter[str] = Counter()
        self.after: Counter[str] = Counter()

    def __call__(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Raises DataError when a training row has no class."""
        waiting, held = Spool(self.context.cache), []
        members: dict[str, list[int]] = {}
        for row in rows:
            if row.part == "validation":
                held.append(row)
                continue
            label = self._label(row)
            self.counts[label] += 1
            if self.settings.method == "report":
                yield row
            else:
                members.setdefault(label, []).append(waiting.add(row.name, row.values, row.history))
        times = {number: count for label in members for number, count in self._times(members[label]).items()}
        label_of = {number: label for label, numbers in members.items() for number in numbers}
        for number in range(len(waiting)):
            name, values, history = waiting.get(number)
            yield from self._made(Row(name, values, "train", history), label_of[number], times[number])
        yield from held

    def report(self) -> Iterator[str]:
        """The classes before and after, the smallest and the largest."""
        if self.counts:
            yield f"before: {_told(self.counts)}"
        if self.after:
            yield f"after: {_told(self.after)}"
        if self.settings.method == "weights":
            weights = {label: self._weight(label) for label in self.counts}
            yield f"weights from {min(weights.values()):.3g} to {max(weights.values()):.3g}"

    def _made(self, row: Row, label: str, times: int) -> Iterator[Row]:
        """The row as often as it shall be there."""
        if self.settings.method == "weights":
            own = float(row.values.get("weight") or 1)  # a canonical row's is a number over 0
            yield row.change({**row.values, "weight": self._weight(label) * own}, "weight")
            return
        self.after[label] += times
        if not times:
            yield row.drop("its class is large", json.loads(label) if label.startswith('"') else label)
            return
        yield row
        for _ in range(times - 1):
            yield row.copy(row.values, "its class is small")

    def _times(self, numbers: Sequence[int]) -> dict[int, int]:
        """How often each row of a class shall be there."""
        smallest, largest = min(self.counts.values()), max(self.counts.values())
        count = len(numbers)
        if self.settings.method == "oversample":
            wanted = max(count, math.ceil(largest / self.settings.ratio))
        elif self.settings.method == "undersample":
            wanted = min(count, math.floor(smallest * self.settings.ratio))
        else:
            wanted = count
        whole, rest = divmod(wanted, count)
        drawn = set(random.Random(f"{self.context.seed}:balance:{numbers[0]}").sample(list(numbers), rest))
        return {number: whole + (number in drawn) for number in numbers}

    def _weight(self, label: str) -> float:
        """Of one row, so that each class weighs the same and all rows together as many as there are."""
        return sum(self.counts.values()) / (len(self.counts) * self.counts[label])

    def _label(self, row: Row) -> str:
        return class_of(row, self.settings.column, "balance")


def class_of(row: Row, column: str, step: str) -> str:
    """A row's class as text.

    Raises:
        DataError: it has none.
    """
    if row.values.get(column) is None:
        raise DataError(
            f"row {row.name} has no {column!r}, by which the step {step!r} tells classes",
            details=[f"its columns: {', '.join(map(repr, row.values))}"],
            fix="Name the column of the classes with `column`; the loader's `keep` carries further columns along.",
        )
    return json.dumps(row.values[column], sort_keys=True, default=repr)


def _told(counts: Counter[str]) -> str:
    (large, most), (small, least) = counts.most_common(1)[0], counts.most_common()[-1]
    return (
        f"{len(counts)} classes, {sum(counts.values())} rows: from {least} ({small}) to {most} ({large}), "
        f"{most / least:.1f} times as many"
    )
