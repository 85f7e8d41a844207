"""Running the steps of `[data]`: each row goes through them one by one, and what becomes of it is written down.

Steps before the split see rows as they were read, when the loader hands them through `context.prepare`, and else the
rows that it returns. Steps after the split see the training rows and then the held-out ones.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from typing import Protocol

from tunesmith.context import Context
from tunesmith.errors import DataError, PluginError
from tunesmith.guard import guarded, wrong_type
from tunesmith.ledger import StepCount
from tunesmith.plan import Use
from tunesmith.records import Dataset
from tunesmith.spec import Settings, Step
from tunesmith.spool import Spool
from tunesmith.steps import Event, Prepare, Row

END = object()


class Watch(Protocol):
    """Looks at the rows on their way, for `tunesmith data`."""

    def read(self, row: Row) -> None:
        """A row as it came from its source."""

    def left(self, step: str, row: Row) -> None:
        """A row as a step left it, with its fate."""


class Preparation:
    """The steps of one loader, in the order of the recipe; those after the split come last.

    Args:
        uses: the steps.
        context: what their factories are handed, each with a seed of its own; it has the ledger.
        watch: looks on.
        prefix: stands before the names of rows and steps, for the sources of a mix.
    """

    def __init__(self, uses: Sequence[Use], context: Context, watch: Watch | None = None, prefix: str = "") -> None:
        self.context = context
        self._watch = watch
        self._prefix = prefix
        self.asked = False  # whether the loader had its rows prepared
        self._copies: Counter[str] = Counter()
        self._before: list[_Running] = []
        self._after: list[_Running] = []
        names = Counter(use.component.name for use in uses)
        for position, use in enumerate(uses):
            assert isinstance(use.component, Step)
            name = use.component.name
            label = prefix + (name if names[name] == 1 else f"{name} (step {position + 1})")
            own = context.with_(seed=(context.seed + position) % 2**32)
            (self._after if use.component.after_split else self._before).append(_Running(use, label, own, self))

    def before(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Take rows through the steps before the split; a loader calls it as `context.prepare`."""
        self.asked = True
        self._listed(self._before)
        found = self._read(rows)
        for running in self._before:
            found = running.through(found)
        return found

    def finish(self, data: Dataset, combined: bool = False) -> Dataset:
        """The data set after the steps that are left: those after the split, and all when the loader ran none.

        Args:
            combined: whether the rows come from other loaders, where they were looked at as they were read.

        Raises:
            DataError: a step leaves no row.
        """
        left = self._after if self.asked else [*self._before, *self._after]
        if not left and (self.asked or combined or self._watch is None):
            return data
        self._listed(left)
        rows: Iterator[Row] = chain(data.train.prepared("train"), data.validation.prepared("validation"))
        if not self.asked and not combined:
            rows = self._read(rows)
        for running in left:
            rows = running.through(rows)
        spool = Spool(self.context.cache)
        numbers = {"train": array("Q"), "validation": array("Q")}
        for row in rows:
            numbers[row.part].append(spool.add(row.name, row.values, row.history))
        train, validation = (spool.records(numbers[part]) for part in ("train", "validation"))
        return replace(data, train=train, validation=validation)

    def new_name(self, row: Row) -> str:
        """A name for a further row made of `row`."""
        self._copies[row.name] += 1
        return f"{row.name}+{self._copies[row.name]}"

    def _listed(self, steps: Sequence[_Running]) -> None:
        self.context.ledger.steps.extend(running.count for running in steps)

    def left(self, step: str, row: Row) -> None:
        """A step is done with a row."""
        if self._watch:
            self._watch.left(step, replace(row, name=self._prefix + row.name))

    def _read(self, rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            if self._watch:
                self._watch.read(replace(row, name=self._prefix + row.name))
            yield row


class _Running:
    """One step at work."""

    def __init__(self, use: Use, label: str, context: Context, preparation: Preparation) -> None:
        self.use = use
        self.label = label
        self.context = context
        self.preparation = preparation
        self.count = StepCount(label)
        self._training_in = self._training_out = 0

    def through(self, rows: Iterable[Row]) -> Iterator[Row]:
        """Let the step take every row, count what it does, and go on with those that it keeps.

        Raises:
            DataError: it leaves no row to train on.
            PluginError: it breaks the contract.
        """
        ledger = self.context.ledger
        with guarded(self.use):
            step: Prepare = self.use.call(self.use.settings, self.context)
            if not callable(step):
                raise wrong_type(self.use, "a callable over rows", step)
            made = iter(step(self._incoming(rows)))
        while True:
            with guarded(self.use):
                row = next(made, END)
            if row is END:
                break
            if not isinstance(row, Row):
                raise wrong_type(self.use, "Row records", row)
            done = self._counted(row)
            self.preparation.left(self.label, done)
            if done.fate == "dropped":
                ledger.drop(done.name, f"{self.label}: {done.why[0]}", done.detail, step=self.label)
                continue
            self.count.rows_out += 1
            self._training_out += done.part != "validation"
            yield Row(done.name, done.values, done.part, done.history)
        self._finished(step)

    def _incoming(self, rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            if not self.count.rows_in % 1024:
                self.context.check_stop(f"data: {self.label}")
            self.count.rows_in += 1
            self._training_in += row.part != "validation"
            yield row

    def _counted(self, row: Row) -> Row:
        """The row with its fate in its history and in the counts."""
        if row.fate == "kept":
            return row
        if self.use.component.after_split and row.part == "validation" and row.fate in ("changed", "added"):  # type: ignore[attr-defined]
            raise self._fault(f"{row.fate} the held-out row {row.name}; after the split only training rows may change")
        setattr(self.count, row.fate, getattr(self.count, row.fate) + 1)
        self.count.reasons.update(f"{row.fate}: {why}" for why in row.why)
        name = row.name
        if row.fate == "added":
            name = self.preparation.new_name(row)
            self.context.ledger.added += 1
        why = ", ".join(row.why) + (f" ({row.detail})" if row.detail else "")
        event = Event(self.label, row.fate, f"{why}, of {row.name}" if row.fate == "added" else why)
        return Row(name, row.values, row.part, (*row.history, event), row.fate, row.why, row.detail)

    def _finished(self, step: Prepare) -> None:
        count = self.count
        lost = count.rows_in + count.added - count.dropped - count.rows_out
        if lost:
            raise self._fault(f"took {count.rows_in} rows and left out {lost} of them without a reason")
        report = getattr(step, "report", None)
        if report is not None:
            with guarded(self.use):
                count.said.extend(str(sentence) for sentence in report())
        if self._training_in and not self._training_out:
            raise DataError(
                f"the step {self.label!r} leaves none of its {self._training_in} rows",
                where=f"[data], step {self.use.component.name}",
                details=self.context.ledger.examples(),
                fix="Change its settings, or take it out; `tunesmith data show RECIPE --row NAME` shows one row's way.",
            )

    def _fault(self, what: str) -> PluginError:
        use = self.use
        return PluginError(
            f"step {use.component.name!r} of {use.distribution} {use.version} {what}",
            fix="This is a defect of that plugin: `tunesmith plugins check NAME` shows more.",
        )


@dataclass(frozen=True)
class Source:
    """One of several loaders that another combines: called, it loads its rows."""

    settings: Settings
    load: Callable[[], Dataset]

    def __call__(self) -> Dataset:
        return self.load()


def load(use: Use, context: Context, watch: Watch | None = None, names: tuple[str, ...] = ()) -> Dataset:
    """Let a loader read its rows, and prepare them by its steps.

    Args:
        watch: looks at the rows on their way.
        names: of the source that it is, of a mix or of a mix within one; they stand before those of rows and steps.

    Raises:
        DataError: a step leaves no row, or what the loader finds.
        PluginError: the loader or a step breaks the contract.
    """
    preparation = Preparation(use.steps, context, watch, "".join(f"{name}/" for name in names))
    sources = {
        name: Source(source.settings, partial(load, source, context, watch, (*names, name)))
        for name, source in use.sources.items()
    }
    first = len(context.ledger.entries)
    with guarded(use):
        data = use.call(use.settings, context.with_(prepare=preparation.before, sources=sources))
    if not isinstance(data, Dataset):
        raise wrong_type(use, "Dataset", data)
    data = preparation.finish(data, combined=bool(use.sources))
    if names:  # rows of two sources may have one name
        entries = context.ledger.entries
        entries[first:] = [replace(entry, row=f"{names[-1]}/{entry.row}") for entry in entries[first:]]
    return data
