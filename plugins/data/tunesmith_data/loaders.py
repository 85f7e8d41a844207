"""The loaders of files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from tunesmith import Context, DataError, Dataset
from tunesmith_data import arrow, checks, files, json_rows, plain, readers
from tunesmith_data.collect import collect
from tunesmith_data.raw import Raw
from tunesmith_data.settings import (
    ConllSettings,
    CsvSettings,
    FileSettings,
    FormatName,
    JsonlSettings,
    JsonSettings,
    ParquetSettings,
    TextSettings,
)


def jsonl(settings: JsonlSettings, context: Context) -> Dataset:
    """One JSON object a line. Raises DataError for a file or a format that cannot be used."""
    checks.jsonl(settings, context.folder)
    return _load(settings, context, json_rows.read_jsonl)


def json(settings: JsonSettings, context: Context) -> Dataset:
    """An array of JSON objects. Raises DataError for a file or a format that cannot be used."""
    checks.json(settings, context.folder)
    endings = json_rows.JSON_ENDINGS
    return _load(settings, context, lambda path: json_rows.read_json(path, settings.field), endings)


def csv(settings: CsvSettings, context: Context) -> Dataset:
    """Comma- or tab-separated values. Raises DataError for a file or a format that cannot be used."""
    checks.csv(settings, context.folder)
    return _load(settings, context, lambda path: readers.read_csv(path, settings.delimiter))


def parquet(settings: ParquetSettings, context: Context) -> Dataset:
    """A Parquet file. Raises DataError for a file or a format that cannot be used."""
    checks.parquet(settings, context.folder)
    return _load(settings, context, arrow.read_parquet)


def text(settings: TextSettings, context: Context) -> Dataset:
    """Plain text, a row a line, a paragraph or a file. Raises DataError for files that cannot be used."""
    checks.text(settings, context.folder)
    rows = _of_one_format(settings, "text")
    data = _load(rows, context, lambda path: plain.read_text(path, settings.row), plain.TEXT_ENDINGS)
    notes = data.notes
    if use := _other_loader(context.path(settings.path)):
        notes = (f'the lines look like JSON and are trained as text; use = "{use}" reads what they say', *notes)
    return replace(data, recognised=f"plain text, a row a {settings.row}", notes=notes)


def _other_loader(path: Path) -> str:
    """The loader for which a file was made that is read as plain text, or ""."""
    _, first = files.several(path, plain.TEXT_ENDINGS)[0]
    return json_rows.use_of(first)


def conll(settings: ConllSettings, context: Context) -> Dataset:
    """Words with tags in columns. Raises DataError for a file that cannot be used."""
    checks.conll(settings, context.folder)
    rows = replace(_of_one_format(settings, "tokens-tags"), label_names=settings.label_names)

    def read(path: Path) -> Iterator[Raw]:
        return plain.read_conll(path, settings.word, settings.tag, settings.separator, settings.comment)

    tag = f"column {settings.tag}" if settings.tag else "the last column"
    return replace(_load(rows, context, read), recognised=f"words (column {settings.word}) with tags ({tag})")


def _of_one_format(settings: TextSettings | ConllSettings, name: FormatName) -> FileSettings:
    """Settings of a loader whose rows can only be of one format, in full."""
    return FileSettings(
        path=settings.path,
        validation_path=settings.validation_path,
        format=name,
        limit=settings.limit,
        validation=settings.validation,
        shuffle=settings.shuffle,
        duplicates=settings.duplicates,
    )


def _load(
    settings: FileSettings, context: Context, read: Callable[[Path], Iterator[Raw]], endings: tuple[str, ...] = ()
) -> Dataset:
    """Rows of a file; `endings` are those of files in a folder, where the loader reads folders."""
    path = context.path(settings.path)
    if settings.validation_path is None:
        return collect(str(path), read(path), settings, context)
    held_path = context.path(settings.validation_path)
    both = _files(path, endings) & _files(held_path, endings)
    if both:
        raise DataError(
            "`path` and `validation_path` name the same file",
            where=str(min(both)),
            fix="Use `validation = SHARE` to hold out a part of one file.",
        )
    raws = read(held_path)
    if held_path.name == path.name:  # the ledger's names must tell the two files apart
        raws = (Raw(f"{held_path.parent.name}/{raw.name}", raw.row, raw.reason) for raw in raws)
    return collect(str(path), read(path), settings, context, held=raws)


def _files(path: Path, endings: tuple[str, ...]) -> set[Path]:
    return {file.resolve() for _, file in files.several(path, endings)} if endings else {path.resolve()}
