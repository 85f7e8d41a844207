"""JSON documents, CSV and Parquet: reading them, and what becomes of broken ones."""

import gzip
import json
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tunesmith import Context, DataError, Dataset, RecipeError
from tunesmith_data import checks, loaders
from tunesmith_data.settings import CsvSettings, JsonSettings, ParquetSettings


def load_json(folder: Path, content: bytes, **settings: Any) -> tuple[Dataset, Context]:
    (folder / "rows.json").write_bytes(content)
    context = Context(folder=folder)
    return loaders.json(JsonSettings(path=Path("rows.json"), **settings), context), context


def load_csv(folder: Path, content: bytes, name: str = "rows.csv", **settings: Any) -> tuple[Dataset, Context]:
    (folder / name).write_bytes(content)
    context = Context(folder=folder)
    return loaders.csv(CsvSettings(path=Path(name), **settings), context), context


def load_parquet(folder: Path, columns: dict[str, Any]) -> tuple[Dataset, Context]:
    import pyarrow
    from pyarrow import parquet

    parquet.write_table(pyarrow.table(columns), folder / "rows.parquet")
    context = Context(folder=folder)
    return loaders.parquet(ParquetSettings(path=Path("rows.parquet")), context), context


def fates(context: Context) -> list[tuple[str, str]]:
    return [(entry.row, f"{entry.reason} {entry.detail}".strip()) for entry in context.ledger.entries]


@pytest.mark.parametrize(
    "content",
    [
        b'[{"text": "a"}, {"text": "b"}]',
        b'{"data": [{"text": "a"}, {"text": "b"}], "version": 1}',
        b'\xef\xbb\xbf[\r\n{"text": "a"},\r\n{"text": "b"}]',
        gzip.compress(b'[{"text": "a"}, {"text": "b"}]', mtime=0),
    ],
    ids=["array", "object", "byte order mark and CRLF", "gzip"],
)
def test_json_rows(tmp_path: Path, content: bytes) -> None:
    dataset, context = load_json(tmp_path, content)
    assert list(dataset.train) == [("rows.json:1", {"text": "a"}), ("rows.json:2", {"text": "b"})]
    assert context.ledger.rows_in == 2


def test_json_field(tmp_path: Path) -> None:
    dataset, _ = load_json(tmp_path, b'{"examples": [{"text": "a"}]}', field="examples")
    assert len(dataset.train) == 1


def test_json_bad_rows(tmp_path: Path) -> None:
    _, context = load_json(tmp_path, b'[{"text": "a"}, 3, {"text": null}, {"text": "a"}]')
    assert fates(context) == [
        ("rows.json:2", "the row is a number, not an object"),
        ("rows.json:3", "'text' is null"),
        ("rows.json:4", "duplicate of rows.json:1"),
    ]


@pytest.mark.parametrize(
    ("content", "message", "place"),
    [
        (b'[{"text": "a"},\n{"text": "b"', "bad JSON: Expecting", ":2"),
        (b'{"text": "a"}\n{"text": "b"}', "bad JSON: Extra data", ":2"),
        (b'{\n"text": "a"\n}\n{"text": ', "bad JSON: Expecting value", ":4"),
        (b'[\n{"text": "\xe9"}]', "not UTF-8", ":2"),
        (b'{"rows": []}', "no array of rows: the file is an object; its keys are: rows", "rows.json"),
        (b'"hello"', "no array of rows: the file is text", "rows.json"),
        (b" \n ", "holds only blanks", "rows.json"),
        (b"[]", "the data has no rows", "rows.json"),
        (b'{"rows": [{"text": "a"}], "version": 1}', "no array of rows", "rows.json"),
        (b"[" * 200_000, "bad JSON: ", "rows.json"),
        (gzip.compress(b'[{"text": "a"}]', mtime=0)[:-6], "the gzip file is damaged", "rows.json"),
    ],
)
def test_json_file_that_cannot_be_used(tmp_path: Path, content: bytes, message: str, place: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        load_json(tmp_path, content)
    assert (error.value.where or "").endswith(place)


def test_json_names_the_key_that_holds_the_rows(tmp_path: Path) -> None:
    content = b'{"version": [1, 2], "examples": [{"text": "a"}]}'
    with pytest.raises(DataError) as error:
        load_json(tmp_path, content)
    assert error.value.fix == 'Name the key that holds the array: field = "examples".'
    assert len(load_json(tmp_path, content, field="examples")[0].train) == 1


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b'prompt,completion\na,"b, c"\nd,"e\nf"\n', "rows.csv"),
        (b'\xef\xbb\xbfprompt,completion\r\na,"b, c"\r\nd,"e\nf"\r\n', "rows.csv"),
        (b'prompt\tcompletion\na\tb, c\nd\t"e\nf"\n', "rows.tsv"),
        (gzip.compress(b'prompt\tcompletion\na\tb, c\n\nd\t"e\nf"\n', mtime=0), "rows.tsv.gz"),
    ],
    ids=["plain", "byte order mark and CRLF", "tabs", "gzip and a blank line"],
)
def test_csv_rows(tmp_path: Path, content: bytes, name: str) -> None:
    dataset, context = load_csv(tmp_path, content, name)
    assert list(dataset.train) == [
        (f"{name}:1", {"prompt": "a", "completion": "b, c"}),
        (f"{name}:2", {"prompt": "d", "completion": "e\nf"}),
    ]
    assert (context.ledger.rows_in, context.ledger.dropped) == (2, 0)


def test_csv_delimiter_and_columns(tmp_path: Path) -> None:
    dataset, _ = load_csv(tmp_path, b"text;category\nlost;card\n", delimiter=";", columns={"label": "category"})
    assert (dataset.type, dataset.train.rows) == ("text-label", [{"text": "lost", "label": "card"}])
    with pytest.raises(RecipeError, match="cannot separate"):
        load_csv(tmp_path, b"text\nlost\n", delimiter='"')


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"a\n", "fewer fields than the header"),
        (b"a,b,c\n", "more fields than the header"),
        (b"a,caf\xe9\n", "not UTF-8"),
        (b"a,\n", "'completion' is empty"),
        (b"a,   \n", "'completion' holds only blanks"),
        (b"a,b\x00\n", "'completion' holds a NUL character"),
        (b'a,"b"c\n', "bad CSV: ',' expected after '\"'"),
        (b'a,"b', "a quoted field never ends"),
        (b"good,row\n", "duplicate of rows.csv:1"),
    ],
)
def test_csv_bad_row(tmp_path: Path, line: bytes, reason: str) -> None:
    dataset, context = load_csv(tmp_path, b"prompt,completion\ngood,row\n" + line)
    assert len(dataset.train) == 1
    assert fates(context) == [("rows.csv:2", reason)]


def test_csv_open_quote_counts_every_line_it_swallows(tmp_path: Path) -> None:
    content = b'text\ngood\n"open\n' + b"lost\n" * 9
    _, context = load_csv(tmp_path, content)
    assert (context.ledger.rows_in, context.ledger.dropped) == (11, 10)


def test_csv_row_after_a_bad_one_is_read(tmp_path: Path) -> None:
    dataset, _ = load_csv(tmp_path, b'text\n"a"b\nc\n')
    assert list(dataset.train) == [("rows.csv:2", {"text": "c"})]


def test_csv_field_of_ten_megabytes(tmp_path: Path) -> None:
    dataset, _ = load_csv(tmp_path, b"text\n" + b"x" * 10_000_000 + b"\n")
    assert len(dataset.train.rows[0]["text"]) == 10_000_000


def test_csv_header_with_a_column_twice(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="names a column twice: 'text'"):
        load_csv(tmp_path, b"text,text\na,b\n")


@pytest.mark.parametrize(
    ("content", "use"),
    [
        (b'{"text": "a"}\n', "jsonl"),
        (b'[["a", "b"]]\n', "jsonl"),
        (b'[{"text": "a"}]', "json"),
        (b'[\n{"a": 1}]', "json"),
    ],
)
def test_csv_over_json_names_the_loader(tmp_path: Path, content: bytes, use: str) -> None:
    with pytest.raises(DataError, match="this is JSON, not a table") as error:
        load_csv(tmp_path, content)
    assert error.value.fix == f'Write use = "{use}".'


def test_json_over_prose_names_the_loader(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="bad JSON") as error:
        load_json(tmp_path, b"Once upon a time.\n")
    assert 'use = "text"' in (error.value.fix or "")


def test_csv_header_alone(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the data has no rows"):
        load_csv(tmp_path, b"prompt,completion\n")


def test_parquet_rows_and_reasons(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    dataset, context = load_parquet(tmp_path, {"messages": [messages, messages, None, [], messages[:1]]})
    assert list(dataset.train) == [("rows.parquet:1", {"messages": messages})]
    assert fates(context) == [
        ("rows.parquet:3", "'messages' is null"),
        ("rows.parquet:4", "'messages' is an empty list"),
        ("rows.parquet:5", "no assistant message"),
        ("rows.parquet:2", "duplicate of rows.parquet:1"),
    ]


def test_parquet_text_that_is_not_utf8_costs_its_row(tmp_path: Path) -> None:
    import pyarrow

    broken = pyarrow.array([b"good", b"caf\xe9", b"fine"]).view(pyarrow.string())
    dataset, context = load_parquet(tmp_path, {"text": broken})
    assert dataset.train.ids == ["rows.parquet:1", "rows.parquet:3"]
    assert fates(context) == [("rows.parquet:2", "not UTF-8")]


def test_parquet_with_a_column_twice(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    made = pyarrow.Table.from_arrays([pyarrow.array(["a"]), pyarrow.array(["b"])], names=["text", "text"])
    parquet.write_table(made, tmp_path / "rows.parquet")
    with pytest.raises(DataError, match="names a column twice: 'text'") as error:
        loaders.parquet(ParquetSettings(path=Path("rows.parquet")), Context(folder=tmp_path))
    assert error.value.fix


KEPT = {
    "day": ([date(2026, 3, 1)], "2026-03-01"),
    "moment": ([datetime(2026, 3, 1, 12, 30, tzinfo=UTC)], "2026-03-01T12:30:00+00:00"),
    "clock": ([time(9, 5)], "09:05:00"),
    "lasts": ([timedelta(hours=1, seconds=1.5)], 3601.5),
    "whole": ([Decimal("12.00")], 12),
    "price": ([Decimal("12.50")], 12.5),
    "exact": ([Decimal("0.1234567890123456789012")], "0.1234567890123456789012"),
    "bytes": ([b"caf\xc3\xa9"], "caf\u00e9"),
    "struct": ([{"since": date(2026, 3, 1), "parts": [Decimal("1.5")]}], {"since": "2026-03-01", "parts": [1.5]}),
}


@pytest.mark.parametrize("column", KEPT)
def test_parquet_values_that_json_does_not_know(tmp_path: Path, column: str) -> None:
    import pyarrow
    from pyarrow import parquet

    written, read = KEPT[column]
    parquet.write_table(pyarrow.table({"text": ["a"], column: written}), tmp_path / "rows.parquet")
    settings = ParquetSettings(path=Path("rows.parquet"), keep=(column,))
    dataset = loaders.parquet(settings, Context(folder=tmp_path))
    assert dataset.train.rows == [{"text": "a", column: read}]
    assert json.loads(json.dumps(dataset.train.rows)) == dataset.train.rows


def test_parquet_as_text_and_labels(tmp_path: Path) -> None:
    columns = {"text": [b"a", b"\xff"], "label": [Decimal("1.50"), Decimal("2.50")]}
    dataset, context = load_parquet(tmp_path, columns)
    assert dataset.train.rows == [{"text": "a", "label": 1.5}]
    assert fates(context) == [("rows.parquet:2", "'text' is of type bytes, not text")]


def test_parquet_time_that_python_cannot_say_costs_its_row(tmp_path: Path) -> None:
    import pyarrow

    far = pyarrow.array([0, 10**15, 1], pyarrow.int64()).cast(pyarrow.timestamp("s"))
    dataset, context = load_parquet(tmp_path, {"text": ["a", "b", "c"], "at": far})
    assert dataset.train.ids == ["rows.parquet:1", "rows.parquet:3"]
    assert fates(context) == [("rows.parquet:2", "'at' holds a time out of range")]


def test_parquet_cut_or_foreign_is_found_at_plan_time(tmp_path: Path) -> None:
    load_parquet(tmp_path, {"text": ["a", "b"]})
    file = tmp_path / "rows.parquet"
    settings = ParquetSettings(path=file)
    checks.parquet(settings, tmp_path)
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(DataError, match="the Parquet file is cut"):
        checks.parquet(settings, tmp_path)
    file.write_bytes(b"text\na\n")
    with pytest.raises(DataError, match="this is not a Parquet file"):
        checks.parquet(settings, tmp_path)


def test_parquet_damaged_inside(tmp_path: Path) -> None:
    load_parquet(tmp_path, {"text": ["a", "b"]})
    file = tmp_path / "rows.parquet"
    content = file.read_bytes()
    file.write_bytes(content[:4] + b"\xff" * (len(content) - 12) + content[-8:])
    with pytest.raises(DataError, match="the Parquet file cannot be read after row 0"):
        loaders.parquet(ParquetSettings(path=file), Context(folder=tmp_path))
