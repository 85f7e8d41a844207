"""Opening a data file: what can be wrong with the file itself, and its lines as bytes."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from tunesmith import DataError
from tunesmith.files.ordinary import check_ordinary

UTF8_BOM = b"\xef\xbb\xbf"
GZIP = b"\x1f\x8b"
PARQUET = b"PAR1"
LONGEST = 256 << 20  # bytes of one line
HARMLESS = 256 << 20  # bytes that any packed file may unpack to
BLANK = 1_000_000  # lines without anything, one after another, that a file of rows may have
RATIO = 200  # beyond that, how many times its own size: text that people write stays far below

#: First bytes of files that are something else than text, and what to say of them.
FOREIGN = {
    PARQUET: ("a Parquet file", 'Write use = "parquet".'),
    b"PK\x03\x04": ("a zip archive (or a spreadsheet)", "Unpack it, or save the sheet as CSV."),
    b"\xff\xfe": ("UTF-16 text", "Save it as UTF-8."),
    b"\xfe\xff": ("UTF-16 text", "Save it as UTF-8."),
}


def examine(path: Path, setting: str) -> None:
    """Refuse a file that is missing, a folder, empty or unreadable; reads no more than four bytes.

    Args:
        path: the file.
        setting: the setting that names it, for the message.

    Raises:
        DataError: what is wrong with the file.
    """
    if path.is_dir():
        raise DataError("this is a folder, not a file", where=str(path), fix=f"Name one file in `{setting}`.")
    check_ordinary(path)
    try:
        head = start(path)
    except FileNotFoundError as error:
        raise DataError("there is no such file", where=str(path), fix=_neighbours(path, setting)) from error
    except OSError as error:
        raise DataError(f"the file cannot be read: {error.strerror}", where=str(path)) from error
    if not head:
        raise DataError("the file is empty", where=str(path), fix="Give a file that holds at least one row.")


def examine_text(path: Path, setting: str) -> None:
    """`examine`, and refuse a file that is plainly no text.

    Raises:
        DataError: what is wrong with the file.
    """
    examine(path, setting)
    head = start(path)
    for magic, (what, fix) in FOREIGN.items():
        if head.startswith(magic):
            raise DataError(f"this is {what}", where=str(path), fix=fix)


def examine_several(path: Path, setting: str, endings: tuple[str, ...]) -> None:
    """`examine_text` for a file; for a folder or a pattern, that it has files and none of them is plainly no text.

    Raises:
        DataError: what is wrong.
    """
    if not _is_many(path):
        examine_text(path, setting)
        return
    for _, file in several(path, endings):
        if file.stat().st_size:
            examine_text(file, setting)


def several(path: Path, endings: tuple[str, ...]) -> list[tuple[str, Path]]:
    """The files that a path names, with the name of each in the ledger.

    Args:
        path: a file; a folder, for the files at any depth of it that end with one of `endings`; or a pattern such as
            `texts/*.txt` for files of a folder.
        endings: in lower case, with their dots.

    Raises:
        DataError: there is no such file.
    """
    if not _is_many(path):
        return [(path.name, path)]
    base = path if path.is_dir() else path.parent
    found = base.rglob("*") if path.is_dir() else base.glob(path.name)
    visible = (file for file in found if not any(part.startswith(".") for part in file.relative_to(base).parts))
    chosen = [file for file in visible if file.is_file()]
    if path.is_dir():
        chosen = [file for file in chosen if file.name.lower().endswith(endings)]
    if not chosen:
        what = f"no file that ends with {' or '.join(endings)}" if path.is_dir() else "no file of this pattern"
        raise DataError(
            f"there is {what}",
            where=str(path),
            fix="Name a file, a folder that has such files, or a pattern such as folder/*.txt.",
        )
    return [(f"{base.name}/{file.relative_to(base).as_posix()}", file) for file in sorted(chosen)]


def _is_many(path: Path) -> bool:
    return path.is_dir() or (any(mark in path.name for mark in "*?[") and not path.exists())


def examine_parquet(path: Path, setting: str) -> None:
    """`examine`, and refuse a file that does not begin and end as Parquet does.

    Raises:
        DataError: what is wrong with the file.
    """
    examine(path, setting)
    if start(path) != PARQUET:
        raise DataError("this is not a Parquet file", where=str(path), fix="Choose the loader by the file's kind.")
    with path.open("rb") as handle:
        handle.seek(-4, 2)
        if handle.read() != PARQUET:
            raise DataError("the Parquet file is cut: its end is missing", where=str(path), fix="Fetch it again.")


def start(path: Path) -> bytes:
    """The first four bytes."""
    with path.open("rb") as handle:
        return handle.read(4)


def lines(path: Path) -> Iterator[bytes]:
    """The lines of a plain or gzip file with their line ends, without a byte order mark.

    Raises:
        DataError: the file cannot be read to its end.
    """
    number = blank = 0
    try:
        with opened(path) as handle:
            grows = Growth(path)
            while line := handle.readline(LONGEST):
                number += 1
                grows.by(len(line))
                blank = 0 if line.strip() else blank + 1
                if blank > BLANK:
                    raise DataError(
                        f"more than {BLANK:,} lines in a row are blank",
                        where=f"{path}:{number - BLANK}",
                        fix="Give a file whose lines hold rows.",
                    )
                if len(line) == LONGEST and not line.endswith(b"\n"):
                    raise DataError(
                        f"line {number} is longer than {LONGEST >> 20} MiB",
                        where=f"{path}:{number}",
                        fix="Give one row a line.",
                    )
                yield line.removeprefix(UTF8_BOM) if number == 1 else line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _damaged(path, f"after line {number}", error) from error
    except OSError as error:
        raise DataError(f"cannot be read after line {number}: {error}", where=str(path)) from error


def whole(path: Path) -> bytes:
    """All bytes of a plain or gzip file, without a byte order mark.

    Raises:
        DataError: the file cannot be read to its end.
    """
    try:
        with opened(path) as handle:
            grows, blocks = Growth(path), []
            while block := handle.read(1 << 24):
                grows.by(len(block))
                blocks.append(block)
            return b"".join(blocks).removeprefix(UTF8_BOM)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise _damaged(path, "before its end", error) from error
    except OSError as error:
        raise DataError(f"the file cannot be read: {error}", where=str(path)) from error


class Growth:
    """Keeps count of what a file unpacks to, and stops one that was made to fill the memory.

    Args:
        path: the file; one that is not packed yields no more than it holds.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.limit = max(HARMLESS, RATIO * path.stat().st_size)
        self.count = 0

    def by(self, count: int) -> None:
        """So many bytes more.

        Raises:
            DataError: they are too many for a file of this size.
        """
        self.count += count
        if self.count > self.limit:
            raise DataError(
                f"the gzip file unpacks to more than {RATIO} times its size",
                where=str(self.path),
                fix="If that is meant, unpack it yourself and name the unpacked file.",
            )


def opened(path: Path) -> BinaryIO:
    """The file, unpacked when its name or its first bytes say gzip."""
    if path.suffix == ".gz" or start(path).startswith(GZIP):
        return cast(BinaryIO, gzip.open(path, "rb"))
    return path.open("rb")


def _damaged(path: Path, place: str, error: Exception) -> DataError:
    return DataError(
        f"the gzip file is damaged {place}: {error}",
        where=str(path),
        fix="Fetch or pack it again; what follows the damage is lost, so no row of it is used.",
    )


def _neighbours(path: Path, setting: str) -> str:
    """A hint: the file with the nearest name in the same folder."""
    from tunesmith.errors import nearest

    if path.parent.is_dir():
        near = nearest(path.name, [other.name for other in path.parent.iterdir() if other.is_file()])
        if near:
            return f"Did you mean {near!r}?"
        return f"Mend `{setting}`; relative paths start at the recipe's folder."
    return f"The folder {path.parent} does not exist either; relative paths start at the recipe's folder."
