"""The loaders of files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from tunesmith import Context, DataError, Dataset
from tunesmith_data import checks, readers
from tunesmith_data.collect import collect
from tunesmith_data.raw import Raw
from tunesmith_data.settings import CsvSettings, FileSettings, JsonlSettings, JsonSettings, ParquetSettings


def jsonl(settings: JsonlSettings, context: Context) -> Dataset:
    """One JSON object a line. Raises DataError for a file or a format that cannot be used."""
    checks.jsonl(settings, context.folder)
    return _load(settings, context, readers.read_jsonl)


def json(settings: JsonSettings, context: Context) -> Dataset:
    """An array of JSON objects. Raises DataError for a file or a format that cannot be used."""
    checks.json(settings, context.folder)
    return _load(settings, context, lambda path: readers.read_json(path, settings.field))


def csv(settings: CsvSettings, context: Context) -> Dataset:
    """Comma- or tab-separated values. Raises DataError for a file or a format that cannot be used."""
    checks.csv(settings, context.folder)
    return _load(settings, context, lambda path: readers.read_csv(path, settings.delimiter))


def parquet(settings: ParquetSettings, context: Context) -> Dataset:
    """A Parquet file. Raises DataError for a file or a format that cannot be used."""
    checks.parquet(settings, context.folder)
    return _load(settings, context, readers.read_parquet)


def _load(settings: FileSettings, context: Context, read: Callable[[Path], Iterator[Raw]]) -> Dataset:
    path = context.path(settings.path)
    if settings.validation_path is None:
        return collect(str(path), read(path), settings, context)
    held_path = context.path(settings.validation_path)
    if held_path.resolve() == path.resolve():
        raise DataError(
            "`path` and `validation_path` name the same file",
            where=str(path),
            fix="Use `validation = SHARE` to hold out a part of one file.",
        )
    raws = read(held_path)
    if held_path.name == path.name:  # the ledger's names must tell the two files apart
        raws = (Raw(f"{held_path.parent.name}/{raw.name}", raw.row, raw.reason) for raw in raws)
    return collect(str(path), read(path), settings, context, held=raws)
