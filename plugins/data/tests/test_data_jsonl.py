"""Broken JSON Lines: each fault costs its own row with a reason, or refuses the file with a message."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tunesmith import Context, DataError, Dataset, RecipeError
from tunesmith_data import checks
from tunesmith_data.loaders import jsonl
from tunesmith_data.settings import JsonlSettings

GOOD = b'{"text": "good"}\n'
SAME_TEXT = b'{"text": "another"}\n'


def load(folder: Path, content: bytes, name: str = "rows.jsonl", **settings: Any) -> tuple[Dataset, Context]:
    (folder / name).write_bytes(content)
    context = Context(folder=folder)
    return jsonl(JsonlSettings(path=Path(name), **settings), context), context


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"text": }\n', "bad JSON: Expecting value"),
        (b"{'text': 'x'}\n", "bad JSON: Expecting property name enclosed in double quotes"),
        (b'{"text": "a"} {"text": "b"}\n', "bad JSON: Extra data"),
        (b'{"text": "cu', "bad JSON in the last line, which has no line end: the file may be cut"),
        (b'{"text": "caf\xe9"}\n', "not UTF-8"),
        (b'{"text": "a\\u0000b"}\n', "'text' holds a NUL character"),
        (b'{"text": "a\x00b"}\n', "bad JSON: Invalid control character at"),
        (b"\x00\x00\x00\n", "bad JSON: Expecting value"),
        (b'{"text": "\\ud83d"}\n', "'text' holds a lone surrogate"),
        (b'{"text": null}\n', "'text' is null"),
        (b'{"words": "x"}\n', "no 'text'"),
        (b'{"text": ["x"]}\n', "'text' is a list, not text"),
        (b'{"text": ""}\n', "'text' is empty"),
        (b'{"text": "   "}\n', "'text' holds only blanks"),
        (b'{"prompt": "a", "completion": "b"}\n', "the row is prompt-completion (prompt, completion), unlike most"),
        (b'["text", "x"]\n', "the row is a list, not an object"),
        (b"null\n", "the row is null, not an object"),
        (b'{"text": ' + b"[" * 200_000 + b"\n", "bad JSON: nested too deeply"),
        (b'{"text": ' + b"9" * 5_000 + b"}\n", "bad JSON: a number has too many digits"),
        (GOOD, "duplicate of rows.jsonl:1"),
    ],
)
def test_bad_line_is_dropped_with_its_reason(tmp_path: Path, line: bytes, reason: str) -> None:
    dataset, context = load(tmp_path, GOOD + SAME_TEXT + line)
    assert dataset.train.ids == ["rows.jsonl:1", "rows.jsonl:2"]
    assert [(entry.row, entry.fate, f"{entry.reason} {entry.detail}".strip()) for entry in context.ledger.entries] == [
        ("rows.jsonl:3", "dropped", reason)
    ]
    assert context.ledger.rows_in == 3


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + GOOD + SAME_TEXT,
        (GOOD + SAME_TEXT).replace(b"\n", b"\r\n"),
        GOOD + SAME_TEXT.rstrip(b"\n"),
        GOOD + SAME_TEXT + b"\n  \n\r\n",
        b'{"text": "good", "extra": {"deep": [1]}}\n' + SAME_TEXT,
    ],
    ids=["byte order mark", "CRLF", "no last line end", "blank lines", "extra field"],
)
def test_harmless_oddities_lose_nothing(tmp_path: Path, content: bytes) -> None:
    dataset, context = load(tmp_path, content)
    assert [row["text"] for row in dataset.train.rows] == ["good", "another"]
    assert (context.ledger.rows_in, context.ledger.dropped) == (2, 0)


def test_names_are_line_numbers_of_the_file(tmp_path: Path) -> None:
    dataset, _ = load(tmp_path, b"\n" + GOOD + b"\n\n" + SAME_TEXT)
    assert dataset.train.ids == ["rows.jsonl:2", "rows.jsonl:5"]


def test_row_of_ten_megabytes_is_read_whole(tmp_path: Path) -> None:
    dataset, context = load(tmp_path, json.dumps({"text": "word " * 2_000_000}).encode() + b"\n" + GOOD)
    assert [len(row["text"]) for row in dataset.train.rows] == [10_000_000, 4]
    assert context.ledger.dropped == 0


@pytest.mark.parametrize("name", ["rows.jsonl.gz", "rows.jsonl"])
def test_gzip_is_unpacked_whatever_its_name(tmp_path: Path, name: str) -> None:
    dataset, _ = load(tmp_path, gzip.compress(GOOD + SAME_TEXT, mtime=0), name)
    assert dataset.train.ids == [f"{name}:1", f"{name}:2"]


@pytest.mark.parametrize(
    "damage",
    [lambda packed: packed[:-12], lambda packed: packed[:30] + b"\xff\xff\xff\xff" + packed[34:], lambda _: GOOD],
    ids=["cut", "changed bytes", "no gzip at all"],
)
def test_damaged_gzip_is_refused(tmp_path: Path, damage: Any) -> None:
    content = b"".join(json.dumps({"text": f"row {n * 7919}"}).encode() + b"\n" for n in range(500))
    with pytest.raises(DataError, match="the gzip file is damaged after line") as error:
        load(tmp_path, damage(gzip.compress(content, mtime=0)), "rows.jsonl.gz")
    assert error.value.exit_code == 65


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"\n\n", "the data has no rows"),
        (gzip.compress(b"", mtime=0), "the data has no rows"),
        (b"\xff\xfe{\x00", "this is UTF-16 text"),
        (b"PAR1....PAR1", "this is a Parquet file"),
        (b"PK\x03\x04....", "this is a zip archive"),
        (b'[{"text": "a"}]\n', "line 1 is a list of rows, not one object a line"),
        (b'[\n{"text": "a"},\n{"text": "b"}]\n', "begins a JSON document over several lines"),
        (b'{\n "text": "a"\n}\n', "begins a JSON document over several lines"),
        (b"hello\nworld\n", "no row can be read"),
    ],
)
def test_file_that_cannot_be_used_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        load(tmp_path, content)
    assert error.value.where is not None
    assert "rows.jsonl" in error.value.where


def test_refusal_names_the_rows_and_reasons(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        load(tmp_path, b"hello\nworld\n")
    assert error.value.details == ("2 x bad JSON: Expecting value: rows.jsonl:1, rows.jsonl:2",)


def test_nothing_left_is_for_the_ledger_to_refuse(tmp_path: Path) -> None:
    dataset, context = load(tmp_path, b'{"text": ""}\n{"text": " "}\n')
    assert (len(dataset.train), dataset.type) == (0, "text")
    with pytest.raises(DataError, match="none of the 2 rows can be used"):
        context.ledger.check(1.0)


def test_duplicates_may_be_kept(tmp_path: Path) -> None:
    dataset, context = load(tmp_path, GOOD + SAME_TEXT + GOOD, duplicates="keep")
    assert (len(dataset.train), context.ledger.dropped) == (3, 0)


def test_missing_file_is_found_at_plan_time(tmp_path: Path) -> None:
    (tmp_path / "support.jsonl").write_bytes(GOOD)
    with pytest.raises(DataError, match="there is no such file") as error:
        checks.jsonl(JsonlSettings(path=Path("suport.jsonl")), tmp_path)
    assert error.value.fix == "Did you mean 'support.jsonl'?"


def test_folder_and_empty_file_are_found_at_plan_time(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="this is a folder"):
        checks.jsonl(JsonlSettings(path=Path(".")), tmp_path)
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(DataError, match="the file is empty"):
        checks.jsonl(JsonlSettings(path=Path("empty.jsonl")), tmp_path)
    with pytest.raises(DataError, match="relative paths start at"):
        checks.jsonl(JsonlSettings(path=Path("no/where.jsonl")), tmp_path)


def test_validation_file_is_checked_too(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_bytes(GOOD)
    own = JsonlSettings(path=Path("rows.jsonl"), validation_path=Path("held.jsonl"))
    with pytest.raises(DataError, match="there is no such file"):
        checks.jsonl(own, tmp_path)
    both = JsonlSettings(path=Path("rows.jsonl"), validation_path=Path("held.jsonl"), validation=0.1)
    with pytest.raises(RecipeError, match="exclude each other"):
        checks.jsonl(both, tmp_path)
