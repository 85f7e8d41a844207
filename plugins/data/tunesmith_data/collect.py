"""From rows as read to a data set: rename, recognise, convert, deduplicate, split. Each loss goes to the ledger."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tunesmith import Context, DataError, Dataset, RecipeError, Records
from tunesmith.errors import nearest
from tunesmith.spec import RecordType
from tunesmith_data.formats import FORMATS, Unusable, convert, recognise, title_of
from tunesmith_data.pairs import as_assistant, as_user
from tunesmith_data.rankings import Usable, expanded
from tunesmith_data.raw import Raw
from tunesmith_data.settings import RowSettings
from tunesmith_data.split import content_key, distinct, held_out, sample, shuffled

LOOKED_AT = 100  # rows by which the format is recognised


def collect(
    source: str, raws: Iterable[Raw], settings: RowSettings, context: Context, held: Iterable[Raw] | None = None
) -> Dataset:
    """Make a data set of rows as they were read.

    Args:
        source: the file or data set, for messages.
        raws: the rows, or the reasons why they could not be read.
        settings: how to understand and split them.
        context: for the seed and the ledger.
        held: rows of a validation file or split; None holds out a share of `raws`.

    Raises:
        DataError: no row can be read, or no format is recognised.
        RecipeError: the settings do not fit the rows.
    """
    rows = _readable(sample(raws, settings.limit, context.seed), settings, context)
    held_rows = _readable(list(held), settings, context) if held is not None else []
    if not rows:
        raise DataError(
            "no row can be read" if context.ledger.rows_in else "the data has no rows",
            where=source,
            details=context.ledger.examples()[:10],
            fix="Mend the rows, or name the loader that fits the file.",
        )
    name = _format(source, rows, settings)
    usable = _converted(rows, name, settings, context)
    held_usable = _converted(held_rows, name, settings, context)
    usable, held_usable = _alike(FORMATS[name].type, usable, held_usable, settings)
    if settings.duplicates == "drop":
        usable = distinct(usable, lambda item: item.key, context.ledger)
        held_usable = distinct(held_usable, lambda item: item.key, context.ledger)
    if held is None:
        apart = held_out([item.key for item in usable], settings.validation, context.seed)
        train = [item for item, out in zip(usable, apart, strict=True) if not out]
        validation = [item for item, out in zip(usable, apart, strict=True) if out]
        if settings.validation and usable and not validation:
            context.reporter.warn(f"{source}: nothing is held out: all rows have the same content")
    else:
        train, validation = usable, _without_overlap(held_usable, usable, context)
    # a ranking's pairs, and a pair's two answers, stay on one side of the split
    train, kind = expanded(train, FORMATS[name].type, settings, context)
    validation, _ = expanded(validation, FORMATS[name].type, settings, context)
    if settings.shuffle:
        train = shuffled(train, context.seed)
    said = title_of(name) + (", as set by `format`" if settings.format != "auto" else "")
    return Dataset(type=kind, train=_records(train), validation=_records(validation), recognised=said)


def _readable(raws: Sequence[Raw], settings: RowSettings, context: Context) -> list[Raw]:
    """Count the rows, drop those that could not be read, rename the columns of the others."""
    context.ledger.read(len(raws))
    found = []
    for raw in raws:
        if raw.row is None:
            context.ledger.drop(raw.name, raw.reason)
        else:
            found.append(Raw(raw.name, _renamed(raw.row, settings.columns)))
    return found


def _renamed(row: Mapping[str, Any], columns: Mapping[str, str]) -> Mapping[str, Any]:
    if not columns:
        return row
    taken = set(columns.values())
    renamed = {column: value for column, value in row.items() if column not in taken}
    renamed.update({canonical: row[name] for canonical, name in columns.items() if name in row})
    return renamed


def _format(source: str, rows: Sequence[Raw], settings: RowSettings) -> str:
    first = [raw.row for raw in rows[:LOOKED_AT] if raw.row is not None]
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
            fix='Say which columns are meant, such as columns = {prompt = "question", completion = "answer"}, '
            "or name the format: format = NAME.",
        )
    if settings.format != "auto" and not any(set(FORMATS[name].columns) <= set(row) for row in first):
        raise DataError(
            f"no row has the columns of the format {name!r}: {', '.join(FORMATS[name].columns)}",
            where=source,
            details=[_listed(present)],
            fix='Mend `format`, or rename columns, such as columns = {prompt = "question"}.',
        )
    return name


def _listed(columns: Sequence[str]) -> str:
    return f"columns found: {', '.join(map(repr, columns[:30])) or 'none'}"


def _converted(raws: Sequence[Raw], name: str, settings: RowSettings, context: Context) -> list[Usable]:
    found = []
    for raw in raws:
        try:
            row = convert(raw.row or {}, name)[1]
            row.update(_kept(raw.row or {}, settings.keep))
        except Unusable as error:
            context.ledger.drop(raw.name, error.reason)
            continue
        found.append(Usable(raw.name, row, content_key(row)))
    return found


def _kept(row: Mapping[str, Any], columns: Sequence[str]) -> dict[str, Any]:
    for column in columns:
        if column not in row:
            raise Unusable(f"no {column!r}, which `keep` names")
    return {column: row[column] for column in columns}


def _alike(
    kind: RecordType, usable: list[Usable], held: list[Usable], settings: RowSettings
) -> tuple[list[Usable], list[Usable]]:
    """Make all rows conversations when one is or when the settings ask for it: a trainer takes one kind of row."""
    if kind in ("text", "text-label"):
        for option, value in (("system", settings.system), ("conversational", settings.conversational)):
            if value:
                raise RecipeError(
                    f"`{option}` does not apply: {kind!r} rows are no conversations",
                    fix=f"Leave `{option}` out, or name a prompt and a completion with `columns`.",
                )
        return usable, held
    wanted = settings.conversational or settings.system is not None
    listed = any(isinstance(item.row.get("prompt"), list) for item in (*usable, *held))
    if not wanted and not listed:
        return usable, held

    def chat(item: Usable) -> Usable:
        row = as_chat(item.row, settings.system)
        return Usable(item.name, row, content_key(row))

    return [chat(item) for item in usable], [chat(item) for item in held]


def as_chat(row: Mapping[str, Any], system: str | None = None) -> dict[str, Any]:
    """A row whose plain prompt and answers are messages, with a system message when it has none."""
    found = dict(row)
    if "prompt" in found:
        found["prompt"] = as_user(found["prompt"])
    for column in ("completion", "chosen", "rejected"):
        if column in found:
            found[column] = as_assistant(found[column])
    if "answers" in found:
        found["answers"] = [as_assistant(answer) for answer in found["answers"]]
    first = "messages" if "messages" in found else "prompt"
    if system and found[first][0]["role"] != "system":
        found[first] = [{"role": "system", "content": system}, *found[first]]
    return found


def _without_overlap(held: Sequence[Usable], train: Sequence[Usable], context: Context) -> list[Usable]:
    names = {item.key: item.name for item in reversed(train)}
    found = []
    for item in held:
        if item.key in names:
            context.ledger.drop(item.name, "overlap with the training rows", f"row {names[item.key]}")
        else:
            found.append(item)
    return found


def _records(items: Sequence[Usable]) -> Records:
    return Records([item.row for item in items], [item.name for item in items])
