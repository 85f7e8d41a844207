"""Rows out of CSV and TSV files. A row that cannot be read comes out with its reason."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tunesmith import DataError
from tunesmith_data import files
from tunesmith_data.raw import NOT_UTF8, Raw


def read_csv(path: Path, delimiter: str | None) -> Iterator[Raw]:
    """One row a record below the header. Names carry row numbers from 1, the header not counted.

    Raises:
        DataError: the file is damaged, or its header names a column twice.
    """
    with _long_fields():
        reader = _reader(path, delimiter)
        header = _header(path, reader)
        number = 0
        while True:
            before = reader.line_num
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                # an open quote swallows lines: each counts as a row, so that the loss shows at its true size
                reason = "a quoted field never ends" if "end of data" in str(error) else f"bad CSV: {error}"
                for _ in range(max(1, reader.line_num - before)):
                    number += 1
                    yield Raw(f"{path.name}:{number}", None, reason)
                continue
            if fields:
                number += 1
                yield _csv_row(f"{path.name}:{number}", header, fields)


def read_header(path: Path, delimiter: str | None) -> list[str]:
    """The names of the columns. Raises DataError when the header is no CSV, or names a column twice."""
    with _long_fields():
        return _header(path, _reader(path, delimiter))


def _reader(path: Path, delimiter: str | None) -> Any:
    if delimiter is None:
        delimiter = "\t" if path.name.removesuffix(".gz").endswith(".tsv") else ","
    # bytes that are not UTF-8 become lone surrogates, so that only their row is lost and not the file
    text = (line.decode("utf-8", "surrogateescape") for line in files.lines(path))
    return csv.reader(text, delimiter=delimiter, strict=True)


def _header(path: Path, reader: Any) -> list[str]:
    try:
        header: list[str] = next((fields for fields in reader if fields), [])
    except csv.Error as error:
        raise DataError(f"the header is bad CSV: {error}", where=f"{path}:{reader.line_num}") from error
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise DataError(
            f"the header names a column twice: {', '.join(map(repr, twice))}",
            where=f"{path}:{reader.line_num}",
            fix="The first line must name every column once.",
        )
    return header


def _csv_row(name: str, header: list[str], fields: list[str]) -> Raw:
    if len(fields) != len(header):
        return Raw(name, None, f"{'fewer' if len(fields) < len(header) else 'more'} fields than the header")
    if any("\udc80" <= character <= "\udcff" for field in fields if not field.isascii() for character in field):
        return Raw(name, None, NOT_UTF8)
    return Raw(name, dict(zip(header, fields, strict=True)))


@contextmanager
def _long_fields() -> Iterator[None]:
    """Lift csv's limit of 131,072 characters a field while reading."""
    before = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    try:
        yield
    finally:
        csv.field_size_limit(before)
