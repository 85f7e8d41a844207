"""Rows out of Parquet files, with the values that JSON does not know brought to text and numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from tunesmith import DataError
from tunesmith_data.raw import NOT_UTF8, Raw


def read_parquet(path: Path) -> Iterator[Raw]:
    """The rows, a batch in memory at a time. Names carry row numbers from 1.

    Raises:
        DataError: pyarrow cannot read the file, or two columns have one name.
    """
    import pyarrow
    from pyarrow import parquet

    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            _check_names(path, file.schema_arrow.names)
            for batch in file.iter_batches(batch_size=1024):
                for row, reason in _rows(batch):
                    number += 1
                    yield Raw(f"{path.name}:{number}", row, reason)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(
            f"the Parquet file cannot be read after row {number}: {str(error).splitlines()[0]}",
            where=str(path),
            fix="Write or fetch it again.",
        ) from error


def of_row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as JSON has it. Fields of a struct that are null are left out: Arrow gives every object of a column all
    fields that any of them has, so that tools and calls come with arguments that nobody wrote."""
    return {column: plain(value) for column, value in row.items()}


def plain(value: Any) -> Any:
    """A value as JSON has it: dates and times in ISO 8601, durations in seconds, decimals as numbers where these are
    exact and else as text, bytes that are UTF-8 as text. Other bytes stay as they are."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, Decimal):
        return _number(value)
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return value
    return value


def _number(value: Decimal) -> int | float | str:
    if value == value.to_integral_value():
        return int(value)
    return float(value) if Decimal(repr(float(value))) == value else str(value)


def _check_names(path: Path, names: list[str]) -> None:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(
            f"the file names a column twice: {', '.join(map(repr, twice))}",
            where=str(path),
            fix="Write it again with another name for one of them.",
        )


def _rows(batch: Any) -> list[tuple[dict[str, Any] | None, str]]:
    """The rows of a batch, or why one cannot be read, which pyarrow notices only on conversion."""
    try:
        return [(of_row(row), "") for row in batch.to_pylist()]
    except (ValueError, OverflowError):  # not UTF-8, or a time that Python cannot say
        return [_row(batch.slice(index, 1)) for index in range(batch.num_rows)]


def _row(single: Any) -> tuple[dict[str, Any] | None, str]:
    row = {}
    for name, column in zip(single.schema.names, single.columns, strict=True):
        try:
            row[name] = plain(column.to_pylist()[0])
        except UnicodeDecodeError:
            return None, NOT_UTF8
        except (ValueError, OverflowError):
            return None, f"{name!r} holds a time out of range"
    return row, ""
