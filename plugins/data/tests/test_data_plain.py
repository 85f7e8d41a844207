"""Text files and columns of words with tags: what is a row, and what becomes of broken ones."""

import gzip
from pathlib import Path
from typing import Any

import pytest

from tunesmith import Context, DataError, Dataset, RecipeError
from tunesmith_data import checks, loaders
from tunesmith_data.settings import ConllSettings, CsvSettings, TextSettings


def load_text(folder: Path, content: bytes, name: str = "book.txt", **settings: Any) -> tuple[Dataset, Context]:
    (folder / name).write_bytes(content)
    context = Context(folder=folder)
    return loaders.text(TextSettings(path=Path(name), **settings), context), context


def load_conll(folder: Path, content: bytes, **settings: Any) -> tuple[Dataset, Context]:
    (folder / "rows.conll").write_bytes(content)
    context = Context(folder=folder)
    return loaders.conll(ConllSettings(path=Path("rows.conll"), **settings), context), context


def fates(context: Context) -> list[tuple[str, str]]:
    return [(entry.row, entry.reason) for entry in context.ledger.entries]


BOOK = b"First, a line.\n  And one more.\n\n \nNew paragraph.\n"


@pytest.mark.parametrize(
    ("row", "rows"),
    [
        ("line", {"book.txt:1": "First, a line.", "book.txt:2": "  And one more.", "book.txt:5": "New paragraph."}),
        ("paragraph", {"book.txt:1": "First, a line.\n  And one more.", "book.txt:5": "New paragraph."}),
        ("file", {"book.txt": "First, a line.\n  And one more.\n\n \nNew paragraph."}),
    ],
)
@pytest.mark.parametrize("how", ["plain", "CRLF", "byte order mark", "gzip", "no last line end"])
def test_text_rows(tmp_path: Path, row: Any, rows: dict[str, str], how: str) -> None:
    content = {
        "plain": BOOK,
        "CRLF": BOOK.replace(b"\n", b"\r\n"),
        "byte order mark": b"\xef\xbb\xbf" + BOOK,
        "gzip": gzip.compress(BOOK, mtime=0),
        "no last line end": BOOK.rstrip(b"\n"),
    }[how]
    dataset, context = load_text(tmp_path, content, row=row)
    assert dict(dataset.train) == {name: {"text": text} for name, text in rows.items()}
    assert (dataset.type, dataset.recognised) == ("text", f"plain text, a row a {row}")
    assert (context.ledger.rows_in, context.ledger.dropped) == (len(rows), 0)


def test_text_bad_rows(tmp_path: Path) -> None:
    dataset, context = load_text(tmp_path, b"good\ncaf\xe9\na\x00b\ngood\nlast\n")
    assert dataset.train.ids == ["book.txt:1", "book.txt:5"]
    assert sorted(fates(context)) == [
        ("book.txt:2", "not UTF-8"),
        ("book.txt:3", "'text' holds a NUL character"),
        ("book.txt:4", "duplicate"),
    ]
    kept, _ = load_text(tmp_path, b"a\nb\na\n", duplicates="keep")
    assert len(kept.train) == 3


def test_text_of_a_folder_and_of_a_pattern(tmp_path: Path) -> None:
    for name, content in {"b.txt": "two\n", "deep/a.md": "three", "deep/.hidden.txt": "no", "table.csv": "no"}.items():
        (tmp_path / "texts" / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / "texts" / name).write_text(content)
    (tmp_path / "texts" / "a.txt.gz").write_bytes(gzip.compress(b"one", mtime=0))
    (tmp_path / "texts" / "empty.txt").touch()
    context = Context(folder=tmp_path)
    dataset = loaders.text(TextSettings(path=Path("texts"), row="file"), context)
    assert {name: row["text"] for name, row in dataset.train} == {
        "texts/a.txt.gz": "one",
        "texts/b.txt": "two",
        "texts/deep/a.md": "three",
    }
    assert fates(context) == [("texts/empty.txt", "'text' is empty")]
    pattern = loaders.text(TextSettings(path=Path("texts/*.txt")), Context(folder=tmp_path))
    assert pattern.train.ids == ["texts/b.txt:1"]
    with pytest.raises(DataError, match="name the same file"):
        loaders.text(TextSettings(path=Path("texts"), validation_path=Path("texts/b.txt")), Context(folder=tmp_path))


def test_text_that_cannot_be_used_is_found_at_plan_time(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "a.txt").write_bytes(b"\xff\xfea\x00")
    for path, message in {
        "book.txt": "there is no such file",
        "none": "no file that ends with .txt",
        "*.txt": "no file of this pattern",
        "some": "this is UTF-16 text",
    }.items():
        with pytest.raises(DataError, match=message) as error:
            checks.text(TextSettings(path=Path(path)), tmp_path)
        assert error.value.fix
    with pytest.raises(RecipeError, match="exclude each other"):
        checks.text(TextSettings(path=Path("a"), validation_path=Path("b"), validation=0.1), tmp_path)


def test_json_that_is_read_as_text_is_said(tmp_path: Path) -> None:
    dataset, _ = load_text(tmp_path, b'{"text": "a"}\n{"text": "b"}\n', "rows.jsonl")
    assert dataset.notes == ('the lines look like JSON and are trained as text; use = "jsonl" reads what they say',)
    assert load_text(tmp_path, b"[1] See page 3.\n")[0].notes == ()


def test_damaged_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the gzip file is damaged"):
        load_text(tmp_path, gzip.compress(BOOK * 99, mtime=0)[:-12], row="file")
    with pytest.raises(DataError, match="the data has no rows"):
        load_text(tmp_path, b"\n \n")


def test_csv_over_plain_text_names_the_loader_that_reads_it(tmp_path: Path) -> None:
    content = b"First, a line.\nSecond, another line, with commas.\n"
    (tmp_path / "rows.txt").write_bytes(content)
    with pytest.raises(DataError, match="names no column") as error:
        checks.csv(CsvSettings(path=Path("rows.txt")), tmp_path)
    assert 'use = "text"' in (error.value.fix or "")
    assert len(load_text(tmp_path, content, "rows.txt")[0].train) == 2
    (tmp_path / "rows.txt").write_bytes(b"text;note\na;b\n")
    checks.csv(CsvSettings(path=Path("rows.txt"), delimiter=";"), tmp_path)
    checks.csv(CsvSettings(path=Path("rows.txt"), columns={"prompt": "text;note"}), tmp_path)


NEWS = b"""-DOCSTART- -X- O O

Ada NNP I-NP B-PER
lives VBZ I-VP O

in IN I-PP O
Rome NNP I-NP B-LOC
"""


def test_conll_sentences(tmp_path: Path) -> None:
    dataset, context = load_conll(tmp_path, NEWS)
    assert dict(dataset.train) == {
        "rows.conll:3": {"tokens": ["Ada", "lives"], "tags": ["B-PER", "O"]},
        "rows.conll:6": {"tokens": ["in", "Rome"], "tags": ["O", "B-LOC"]},
    }
    assert (dataset.type, dataset.recognised) == ("tokens-tags", "words (column 1) with tags (the last column)")
    assert (context.ledger.rows_in, context.ledger.dropped) == (2, 0)
    parts, _ = load_conll(tmp_path, NEWS, tag=2, validation=0.5)
    assert (len(parts.train), len(parts.validation)) == (1, 1)
    assert {tag for _, row in [*parts.train, *parts.validation] for tag in row["tags"]} == {"NNP", "VBZ", "IN"}


def test_conll_with_tabs_comments_and_words_that_hold_blanks(tmp_path: Path) -> None:
    words = [("1-2", "vamonos", "_"), ("1", "vamos", "VERB"), ("2", "nos", "PRON"), ("3", "New York", "PROPN")]
    lines = ["\t".join((number, word, "_", tag, *"______")) for number, word, tag in [*words, ("3.1", "no", "X")]]
    content = "\r\n".join(["# text = vamonos New York", *lines, ""]).encode()
    dataset, _ = load_conll(tmp_path, content, word=2, tag=4, separator="\t", comment="#")
    assert dict(dataset.train) == {
        "rows.conll:3": {"tokens": ["vamos", "nos", "New York"], "tags": ["VERB", "PRON", "PROPN"]}
    }


@pytest.mark.parametrize(
    ("sentence", "line", "reason"),
    [
        (b"word\n", 4, "a line has fewer columns than the first, which has 2"),
        (b"fine O\nword O B\n", 5, "a line has more columns than the first, which has 2"),
        (b"fine O\ncaf\xe9 O\n", 5, "not UTF-8"),
        (b"a\0b O\n", 4, "a token holds a NUL character"),
        (b"Ada B\nsings O\n", 4, "duplicate"),
    ],
)
def test_conll_bad_sentence_is_dropped_with_its_reason(tmp_path: Path, sentence: bytes, line: int, reason: str) -> None:
    dataset, context = load_conll(tmp_path, b"Ada B\nsings O\n\n" + sentence + b"\nlast O\n")
    assert len(dataset.train) == 2
    assert fates(context) == [(f"rows.conll:{line}", reason)]


def test_conll_label_names(tmp_path: Path) -> None:
    dataset, context = load_conll(tmp_path, b"Ada 1\nsings 0\n\nRome 2\n", label_names=("O", "B-PER"))
    assert dataset.labels == ("O", "B-PER")
    assert dataset.train.rows == [{"tokens": ["Ada", "sings"], "tags": ["B-PER", "O"]}]
    assert fates(context) == [("rows.conll:4", "a label's number is out of range: `label_names` has 2")]


@pytest.mark.parametrize(
    ("content", "settings", "message"),
    [
        (b"Ada B\n", {"tag": 4}, "the line has 2 columns, but tag = 4"),
        (b"Ada B\n", {"word": 2}, "words and tags both are column 2"),
        (b"Ada\tB\n", {"separator": ","}, "has one column, so no word has a tag"),
        (b"Just some prose here.\n", {"word": 9}, "the line has 4 columns, but word = 9"),
    ],
)
def test_conll_columns_are_checked_at_plan_time(
    tmp_path: Path, content: bytes, settings: dict[str, Any], message: str
) -> None:
    (tmp_path / "rows.conll").write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        checks.conll(ConllSettings(path=Path("rows.conll"), **settings), tmp_path)
    assert (error.value.where or "").endswith("rows.conll:1")
    assert error.value.fix
    with pytest.raises(DataError, match=message):
        load_conll(tmp_path, content, **settings)


def test_conll_word_and_tag_of_one_column(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="both are column 3"):
        checks.conll(ConllSettings(path=Path("rows.conll"), word=3, tag=3), tmp_path)
