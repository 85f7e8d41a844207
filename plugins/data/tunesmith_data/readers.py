"""Rows out of files: JSON Lines, JSON, CSV, Parquet. A row that cannot be read comes out with its reason."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tunesmith import DataError
from tunesmith_data import files
from tunesmith_data.raw import NOT_UTF8, Raw, checked, kind


def read_jsonl(path: Path) -> Iterator[Raw]:
    """One row a line; blank lines are no rows. Names carry line numbers.

    Raises:
        DataError: the file is damaged, or is one JSON document over several lines.
    """
    first = True
    for number, line in enumerate(files.lines(path), 1):
        bare = line.strip()
        if not bare:
            continue
        if first and (bare.startswith(b"[") or bare == b"{"):
            raise DataError(
                f"line {number} begins a JSON document over several lines, not one object a line",
                where=str(path),
                fix='Write use = "json", or store one object a line.',
            )
        first = False
        yield _json_line(f"{path.name}:{number}", bare, ended=line.endswith(b"\n"))


def _json_line(name: str, line: bytes, *, ended: bool) -> Raw:
    try:
        return checked(name, json.loads(line.decode("utf-8")))
    except UnicodeDecodeError:
        return Raw(name, None, NOT_UTF8)
    except json.JSONDecodeError as error:
        if not ended:
            return Raw(name, None, "bad JSON in the last line, which has no line end: the file may be cut")
        return Raw(name, None, f"bad JSON: {error.msg}")
    except RecursionError:
        return Raw(name, None, "bad JSON: nested too deeply")
    except ValueError:
        return Raw(name, None, "bad JSON: a number has too many digits")


def read_json(path: Path, field: str) -> Iterator[Raw]:
    """The rows of an array, or of the array under `field` of an object. Names carry positions from 1.

    Raises:
        DataError: the file is damaged, not UTF-8, not JSON, or holds no array of rows.
    """
    content = files.whole(path)
    if not content.strip():
        raise DataError("the file holds only blanks", where=str(path))
    try:
        document = json.loads(content.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError("not UTF-8", where=f"{path}:{line}", fix="Save the file as UTF-8.") from error
    except json.JSONDecodeError as error:
        several = error.msg == "Extra data"
        raise DataError(
            f"bad JSON: {error.msg} (column {error.colno})",
            where=f"{path}:{error.lineno}",
            fix='For one object a line write use = "jsonl".' if several else "Mend the file from this place on.",
        ) from error
    except (RecursionError, ValueError) as error:
        raise DataError(f"bad JSON: {error}", where=str(path)) from error
    rows = document.get(field) if isinstance(document, dict) else document
    if not isinstance(rows, list):
        found = f"; its keys are: {', '.join(list(document)[:20])}" if isinstance(document, dict) else ""
        raise DataError(
            f"no array of rows: the file is {kind(document)}{found}",
            where=str(path),
            fix="Name the key that holds the array: field = KEY.",
        )
    for number, value in enumerate(rows, 1):
        yield checked(f"{path.name}:{number}", value)


def read_csv(path: Path, delimiter: str | None) -> Iterator[Raw]:
    """One row a record below the header. Names carry row numbers from 1, the header not counted.

    Raises:
        DataError: the file is damaged, or its header names a column twice.
    """
    if delimiter is None:
        delimiter = "\t" if path.name.removesuffix(".gz").endswith(".tsv") else ","
    # bytes that are not UTF-8 become lone surrogates, so that only their row is lost and not the file
    text = (line.decode("utf-8", "surrogateescape") for line in files.lines(path))
    with _long_fields():
        reader = csv.reader(text, delimiter=delimiter, strict=True)
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


def read_parquet(path: Path) -> Iterator[Raw]:
    """The rows, a batch in memory at a time. Names carry row numbers from 1.

    Raises:
        DataError: pyarrow cannot read the file.
    """
    import pyarrow
    from pyarrow import parquet

    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1024):
                for row in _rows(batch):
                    number += 1
                    name = f"{path.name}:{number}"
                    yield Raw(name, row) if row is not None else Raw(name, None, NOT_UTF8)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(
            f"the Parquet file cannot be read after row {number}: {str(error).splitlines()[0]}",
            where=str(path),
            fix="Write or fetch it again.",
        ) from error


def _rows(batch: Any) -> list[dict[str, Any] | None]:
    """The rows of a batch; None for one whose text is not UTF-8, which pyarrow notices only on conversion."""
    try:
        return batch.to_pylist()
    except UnicodeDecodeError:
        return [_row(batch.slice(index, 1)) for index in range(batch.num_rows)]


def _row(single: Any) -> dict[str, Any] | None:
    try:
        return single.to_pylist()[0]
    except UnicodeDecodeError:
        return None
