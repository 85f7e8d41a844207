"""Loaders: rows from files, from the hub and from docstrings, in the record types that trainers take."""

from collections.abc import Iterator

from tunesmith import Loader, hookimpl
from tunesmith_data.settings import (
    CsvSettings,
    DocstringsSettings,
    HubSettings,
    JsonlSettings,
    JsonSettings,
    ParquetSettings,
)


@hookimpl
def tunesmith_loaders() -> Iterator[Loader]:
    yield Loader(
        name="jsonl",
        summary="JSON Lines: one object a line, plain or gzip",
        factory="tunesmith_data.loaders:jsonl",
        settings=JsonlSettings,
        check="tunesmith_data.checks:jsonl",
    )
    yield Loader(
        name="json",
        summary="JSON: an array of objects, or an object that holds one, plain or gzip",
        factory="tunesmith_data.loaders:json",
        settings=JsonSettings,
        check="tunesmith_data.checks:json",
    )
    yield Loader(
        name="csv",
        summary="CSV or TSV with a header line, plain or gzip",
        factory="tunesmith_data.loaders:csv",
        settings=CsvSettings,
        check="tunesmith_data.checks:csv",
    )
    yield Loader(
        name="parquet",
        summary="Parquet",
        factory="tunesmith_data.loaders:parquet",
        settings=ParquetSettings,
        requires=("pyarrow",),
        check="tunesmith_data.checks:parquet",
    )
    yield Loader(
        name="hub",
        summary="A dataset of the Hugging Face hub by its id, or a folder of data files",
        factory="tunesmith_data.hub:load",
        settings=HubSettings,
        requires=("datasets",),
        check="tunesmith_data.checks:hub",
    )
    yield Loader(
        name="docstrings",
        summary="Functions and their docstrings out of an installed package; needs no file and no network",
        factory="tunesmith_data.docstrings:load",
        settings=DocstringsSettings,
        check="tunesmith_data.docstrings:check",
    )
