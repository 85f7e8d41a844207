"""From rows as read to a data set: rename, prepare, recognise, convert, deduplicate, split.

Rows go through one by one and wait in a `Spool`, so a set may be larger than the memory. Each loss goes to the ledger.
"""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any

from tunesmith import Context, DataError, Dataset, RecipeError, Records, Row, Spool
from tunesmith.errors import nearest
from tunesmith.labels import LABEL_COLUMNS
from tunesmith_data.conversational import Turns
from tunesmith_data.formats import FORMATS, Unusable, recognise, title_of
from tunesmith_data.names import Names, likely
from tunesmith_data.rankings import INSTEAD, MADE, PAIRS, expanded
from tunesmith_data.raw import Raw
from tunesmith_data.reading import Reading
from tunesmith_data.settings import RowSettings
from tunesmith_data.split import DUPLICATE, KEY_BYTES, OVERLAP, content_key, held_out, sample, shuffled

LOOKED_AT = 100  # rows by which the format is recognised


def collect(
    source: str, raws: Iterable[Raw], settings: RowSettings, context: Context, held: Iterable[Raw] | None = None
) -> Dataset:
    """Make a data set of rows as they were read.

    Args:
        source: the file or data set, for messages.
        raws: the rows, or the reasons why they could not be read.
        settings: how to understand and split them.
        context: for the seed, the ledger and the recipe's steps.
        held: rows of a validation file or split; None holds out a share of `raws`.

    Raises:
        DataError: no row can be read, or no format is recognised.
        RecipeError: the settings do not fit the rows.
    """
    names = Names(settings)
    rows = context.prepare(_incoming(raws, held, names, context))
    first = list(islice(rows, LOOKED_AT))
    training = [row.values for row in first if row.part != "validation"]
    if not training:
        raise DataError(
            "no row can be read" if context.ledger.rows_in else "the data has no rows",
            where=source,
            details=context.ledger.examples()[:10],
            fix='Mend the rows, or name the loader that fits the file: "jsonl", "json", "csv", "parquet", "text" for '
            'plain text, "conll" for words with tags.',
        )
    name = _format(source, training, settings)
    waiting = _Waiting(name, names, context)
    for row in chain(first, rows):
        waiting.take(row)
    names.check(source)
    waiting.settle(source)
    train, validation = waiting.split(source, apart=held is not None)
    if settings.shuffle:
        train = array("Q", shuffled(train, context.seed))
    said = title_of(name) + (", as set by `format`" if settings.format != "auto" else "") + waiting.turns.said
    kind = FORMATS[name].type
    further: dict[str, Any] = {
        "unused": waiting.reading.unused(),
        "notes": (*waiting.notes, *names.notes()),
    }
    if settings.pairs != "keep" and (kind not in PAIRS or kind == MADE[settings.pairs]):
        say = "have labels already" if kind in PAIRS else "do not say which answers are wanted"
        raise RecipeError(
            f"pairs = {settings.pairs!r} does not apply: {kind!r} rows {say}",
            where=source,
            fix="Leave `pairs` out." if kind in PAIRS else "Leave `pairs` out, or map the answers with `columns`.",
        )
    if kind not in PAIRS:
        parts = waiting.spool.records(train), waiting.spool.records(validation)
        labels = settings.label_names if kind in LABEL_COLUMNS else ()
        return Dataset(type=kind, train=parts[0], validation=parts[1], recognised=said, labels=labels, **further)
    # a ranking's pairs, and a pair's two answers, stay on one side of the split
    pairs = [_expanded(waiting.spool.records(numbers), settings, context) for numbers in (train, validation)]
    kind = MADE.get(settings.pairs, kind)
    if settings.pairs == "wanted":
        said = f"{said}, the wanted answers alone, as set by `pairs`"
    instead: dict[str, str] = {MADE[way]: how for way, how in INSTEAD.items() if MADE[way] != kind}
    return Dataset(type=kind, train=pairs[0], validation=pairs[1], recognised=said, instead=instead, **further)


def _incoming(raws: Iterable[Raw], held: Iterable[Raw] | None, names: Names, context: Context) -> Iterator[Row]:
    """Count the rows, drop those that could not be read, rename the columns of the others."""
    limit = names.settings.limit
    chosen = raws if limit is None else sample(raws, limit, context.seed)
    for part, source in (("" if held is None else "train", chosen), ("validation", held or ())):
        for raw in source:
            context.ledger.read()
            if raw.row is None:
                context.ledger.drop(raw.name, raw.reason)
            else:
                yield Row(raw.name, names.row(raw.row), part)  # type: ignore[arg-type]


class _Waiting:
    """Converted rows with the digests of their content, before they are split.

    The rows themselves go to a file when they are many; a digest and a few numbers of each stay in memory.
    """

    def __init__(self, name: str, names: Names, context: Context) -> None:
        self.form = FORMATS[name]
        self.settings = settings = names.settings
        self.reading = Reading(self.form, settings, names)
        self.context = context
        self.spool = Spool(context.cache)
        self.parts = bytearray()  # 1 for a held-out row
        self.keys = bytearray()  # KEY_BYTES a row
        self.groups: list[str] = []  # of each row, when the settings name a column of groups
        self.turns = Turns(settings, context.has_template)
        self.listed = False
        self.repeated: Counter[str] = Counter()  # rows left out since another says the same
        self.unanswered = 0  # conversations whose last turn is not the assistant's
        if self.turns.asked and self.form.type in ("text", *LABEL_COLUMNS):
            option = "system" if settings.system is not None else "conversational"
            raise RecipeError(
                f"`{option}` does not apply: {self.form.type!r} rows are no conversations",
                fix=f"Leave `{option}` out, or name a prompt and a completion with `columns`.",
            )

    def take(self, row: Row) -> None:
        """Convert a row and keep it, or drop it with the reason."""
        try:
            values = {**_kept(row.values, self.settings.keep), **self.reading.row(row.values)}
            group = _group(row.values, self.settings.group) if self.settings.group is not None else ""
        except Unusable as error:
            self.context.ledger.drop(row.name, error.reason, expected=error.expected)
            return
        self.listed |= isinstance(values.get("prompt"), list)
        values = self.turns.of(values)
        turns = values.get("messages") or [{"role": "assistant"}]
        self.unanswered += turns[-1]["role"] != "assistant"
        self.spool.add(row.name, values, row.history)
        self.parts.append(row.part == "validation")
        self.keys += content_key(values)
        if self.settings.group is not None:
            self.groups.append(group)

    def settle(self, source: str) -> None:
        """Change what takes all rows to decide: some are conversations, so all are; or plain ones need a separator."""
        change = self.turns.settled(source, listed=self.listed)
        if change is None:
            return
        before, self.spool, self.keys = self.spool, Spool(self.context.cache), bytearray()
        for number in range(len(before)):
            name, values, history = before.get(number)
            values = change(values)
            self.spool.add(name, values, history)
            self.keys += content_key(values)

    def split(self, source: str, *, apart: bool) -> tuple[array[int], array[int]]:
        """The numbers of the rows to train on and of those held out, without duplicates and overlap.

        Args:
            source: for messages.
            apart: whether the held-out rows came in a file of their own.
        """
        train, validation = self._distinct(0, {}), array("Q")
        if apart:
            validation = self._distinct(1, {self._key(number): number for number in reversed(train)})
            return train, validation
        out = held_out(
            self._groups(train),
            self.settings.validation,
            self.context.seed,
            distinct=self.settings.group is None and self.settings.duplicates == "drop",
        )
        chosen = [array("Q", (n for n, held in zip(train, out, strict=True) if held is side)) for side in (False, True)]
        if self.settings.validation and train and not chosen[1]:
            alike = "are of one group" if self.settings.group is not None else "have the same content"
            self.context.reporter.warn(f"{source}: nothing is held out: all rows {alike}")
        return chosen[0], chosen[1]

    def _distinct(self, part: int, training: Mapping[bytes, int]) -> array[int]:
        """The numbers of the rows of a part; the ledger is told of those left out.

        Args:
            training: the training rows by their keys, when this part must not repeat them.
        """
        first: dict[bytes, int] = {}
        found = array("Q")
        for number in range(len(self.spool)):
            if self.parts[number] != part:
                continue
            key = self._key(number)
            if self.settings.duplicates == "drop" and first.setdefault(key, number) != number:
                self.repeated[DUPLICATE] += 1
                self.context.ledger.drop(self._name(number), DUPLICATE, f"of {self._name(first[key])}", expected=True)
            elif key in training:
                self.repeated[OVERLAP] += 1
                there = self._name(training[key])
                self.context.ledger.drop(self._name(number), OVERLAP, f"row {there}", expected=True)
            else:
                found.append(number)
        return found

    @property
    def notes(self) -> tuple[str, ...]:
        """What to say of rows that repeat others, and of turns that nothing answers; none where there are none."""
        said = []
        if self.unanswered:
            plural = "s end" if self.unanswered > 1 else " ends"
            said.append(f"{self.unanswered} conversation{plural} with a turn that no answer follows: it is not trained")
        if count := self.repeated[DUPLICATE]:
            plural = "s repeat others and are" if count > 1 else " repeats another and is"
            said.append(f'{count} row{plural} left out; duplicates = "keep" uses a row as often as it stands there')
        if count := self.repeated[OVERLAP]:
            plural = "s stand" if count > 1 else " stands"
            said.append(f"{count} held-out row{plural} among the training rows too and would be measured as learned")
        return tuple(said)

    def _groups(self, numbers: Sequence[int]) -> Sequence[str]:
        """The group of each row: its content, or what the settings name; rows of equal content share theirs."""
        if self.settings.group is None:
            return [self._key(number).hex() for number in numbers]
        leader: dict[str, str] = {}  # of each group the one that it was joined to

        def of(group: str) -> str:
            while leader.get(group, group) != group:
                group = leader[group]
            return group

        if self.settings.duplicates == "keep":  # rows of equal content join their groups
            owner: dict[bytes, str] = {}
            for number in numbers:
                one = of(owner.setdefault(self._key(number), self.groups[number]))
                other = of(self.groups[number])
                leader[max(one, other)] = min(one, other)
        return [of(self.groups[number]) for number in numbers]

    def _key(self, number: int) -> bytes:
        return bytes(self.keys[number * KEY_BYTES : (number + 1) * KEY_BYTES])

    def _name(self, number: int) -> str:
        return self.spool.get(number)[0]


def _expanded(records: Records, settings: RowSettings, context: Context) -> Records:
    spool = Spool(context.cache)
    for row in expanded(records.prepared("train"), settings, context):
        spool.add(row.name, row.values, row.history)
    return spool.records()


def _group(row: Mapping[str, Any], column: str) -> str:
    if row.get(column) is None:
        raise Unusable(f"no {column!r}, which `group` names")
    return json.dumps(row[column], sort_keys=True, default=repr)


def _format(source: str, first: Sequence[Mapping[str, Any]], settings: RowSettings) -> str:
    present = list(dict.fromkeys(column for row in first for column in row))
    for canonical, column in settings.columns.items():
        if canonical not in present:
            near = nearest(column, present)
            raise DataError(
                f"no row has the column {column!r} that `columns` names for {canonical!r}",
                where=source,
                details=[_listed(present)],
                fix=f"Did you mean {near!r}?" if near else "Mend `columns`.",
            )
    name = recognise(first) if settings.format == "auto" else settings.format
    if name is None:
        raise DataError(
            "the format of the rows is not recognised",
            where=source,
            details=[_listed(present), *(f"{form.name}: {', '.join(form.columns)}" for form in FORMATS.values())],
            fix=f"Say which columns are meant, such as {likely(present)}, or name the format: format = NAME.",
        )
    if settings.format != "auto" and not any(FORMATS[name].has_columns(row) for row in first):
        raise DataError(
            f"no row has the columns of the format {name!r}: {', '.join(FORMATS[name].columns)}",
            where=source,
            details=[_listed(present)],
            fix='Mend `format`, or rename columns, such as columns = {prompt = "question"}.',
        )
    return name


def _listed(columns: Sequence[str]) -> str:
    return f"columns found: {', '.join(map(repr, columns[:30])) or 'none'}"


def _kept(row: Mapping[str, Any], columns: Sequence[str]) -> dict[str, Any]:
    for column in columns:
        if column not in row:
            raise Unusable(f"no {column!r}, which `keep` names")
    return {column: row[column] for column in columns}
