"""Rows out of text files: plain text, and columns of words with their tags as CoNLL has them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal

from tunesmith import DataError
from tunesmith_data import files
from tunesmith_data.raw import NOT_UTF8, Raw

#: What the files of a folder end with, for `text` to read them.
TEXT_ENDINGS = (".txt", ".text", ".md", ".txt.gz", ".text.gz", ".md.gz")
#: The word of a line that stands between the documents of a CoNLL file.
BETWEEN = "-DOCSTART-"
#: The number of a line of CoNLL-U that is no word of its own: a range of words, or one that is not written.
NO_WORD = re.compile(r"\d+[-.]\d+")
CONLL_U = 10  # columns

RowOf = Literal["line", "paragraph", "file"]
Numbered = tuple[int, bytes]


def read_text(path: Path, row: RowOf) -> Iterator[Raw]:
    """A row a line, a paragraph (lines without a blank one between them) or a file. Names carry line numbers.

    Raises:
        DataError: a file is damaged, or there is none.
    """
    for name, file in files.several(path, TEXT_ENDINGS):
        if row == "file":
            yield _text(name, files.whole(file))
            continue
        blocks = _blocks(files.lines(file)) if row == "paragraph" else ([entry] for entry in _filled(files.lines(file)))
        for block in blocks:
            yield _text(f"{name}:{block[0][0]}", b"".join(line for _, line in block))


def read_conll(
    path: Path, word: int, tag: int | None, separator: str | None = None, comment: str | None = None
) -> Iterator[Raw]:
    """A row a sentence: its words, one a line, with a tag each. A sentence is named by its first line, and one that
    cannot be read by the line that is wrong.

    Args:
        word: the column of the words, from 1.
        tag: the column of the tags; None is the last one.
        separator: what stands between columns; None is any blanks.
        comment: what lines begin with that are left out.

    Raises:
        DataError: the file is damaged, or has no such columns.
    """
    count = 0
    for block in _blocks(files.lines(path), comment):
        split = _Split(block, separator)
        if count == 0 and split.fields:
            count = len(split.fields[0][1])
            check_columns(path, split.fields[0][0], count, word, tag)
        if split.bad:
            yield Raw(f"{path.name}:{split.bad}", None, NOT_UTF8)
            continue
        ragged = [(number, len(fields)) for number, fields in split.fields if len(fields) != count]
        if ragged:
            number, found = ragged[0]
            than = "fewer" if found < count else "more"
            yield Raw(f"{path.name}:{number}", None, f"a line has {than} columns than the first, which has {count}")
            continue
        fields = [fields for _, fields in split.fields]
        if fields:
            chosen = {"tokens": [f[word - 1] for f in fields], "tags": [f[(tag or count) - 1] for f in fields]}
            yield Raw(f"{path.name}:{split.fields[0][0]}", chosen)


def first_columns(path: Path, separator: str | None, comment: str | None) -> tuple[int, int] | None:
    """The number and the columns of the first line with a word; None where there is none."""
    for block in _blocks(files.lines(path), comment):
        for number, fields in _Split(block, separator).fields:
            return number, len(fields)
    return None


def check_columns(path: Path, number: int, count: int, word: int, tag: int | None) -> None:
    """Refuse columns that a file does not have.

    Raises:
        DataError: which.
    """
    for option, column in (("word", word), ("tag", tag or count)):
        if column > count:
            raise DataError(
                f"the line has {count} columns, but {option} = {column}",
                where=f"{path}:{number}",
                fix='Name columns from 1 on, or what stands between them: separator = "\\t".',
            )
    if word == (tag or count):
        alone = count == 1
        raise DataError(
            "the line has one column, so no word has a tag" if alone else f"words and tags both are column {word}",
            where=f"{path}:{number}",
            fix='Say what stands between the columns: separator = ","; plain text is read by use = "text".'
            if alone
            else "Name two columns: word = 1, tag = 2.",
        )


class _Split:
    """The lines of a sentence as columns, without those that stand for no word.

    Attributes:
        fields: number and columns of each line.
        bad: the first line that is not UTF-8; 0 for none.
    """

    def __init__(self, block: Sequence[Numbered], separator: str | None) -> None:
        self.fields: list[tuple[int, list[str]]] = []
        self.bad = 0
        for number, line in block:
            try:
                text = line.decode("utf-8").rstrip("\r\n")
            except UnicodeDecodeError:
                self.bad = self.bad or number
                continue
            columns = text.split() if separator is None else [part.strip() for part in text.split(separator)]
            if BETWEEN in columns[:1] or (len(columns) == CONLL_U and NO_WORD.fullmatch(columns[0])):
                continue
            self.fields.append((number, columns))


def _filled(lines: Iterable[bytes]) -> Iterator[Numbered]:
    return ((number, line) for number, line in enumerate(lines, 1) if line.strip())


def _blocks(lines: Iterable[bytes], comment: str | None = None) -> Iterator[list[Numbered]]:
    """Lines with their numbers, together where no blank line stands between them."""
    block: list[Numbered] = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            if comment is None or not line.startswith(comment.encode()):
                block.append((number, line))
        elif block:
            yield block
            block = []
    if block:
        yield block


def _text(name: str, content: bytes) -> Raw:
    try:
        text = content.decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError:
        return Raw(name, None, NOT_UTF8)
    return Raw(name, {"text": text.rstrip("\n")})
