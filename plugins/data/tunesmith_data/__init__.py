"""Loaders of rows from files, from the hub and from docstrings, and the steps that prepare rows."""

from collections.abc import Iterator

from tunesmith import Loader, Step, hookimpl
from tunesmith_data.settings import (
    CsvSettings,
    DocstringsSettings,
    HubSettings,
    JsonlSettings,
    JsonSettings,
    ParquetSettings,
)
from tunesmith_data.steps.settings import DeduplicateSettings, NormaliseSettings


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


@hookimpl
def tunesmith_steps() -> Iterator[Step]:
    yield Step(
        name="normalise",
        summary="Unicode form, whitespace, control characters",
        factory="tunesmith_data.steps.normalise:normalise",
        settings=NormaliseSettings,
    )
    yield Step(
        name="deduplicate",
        summary="Drop rows that repeat others, exactly or nearly (MinHash)",
        factory="tunesmith_data.steps.duplicates:deduplicate",
        settings=DeduplicateSettings,
        requires=("datasketch",),
    )
