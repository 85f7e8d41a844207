"""What a person judged: a file of rankings, one a line, each on the disk before the next question is asked."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from tunesmith.errors import DataError, DiskError, LockedError
from tunesmith.folder import now
from tunesmith.ranking.book import Book
from tunesmith.ranking.order import Choice, choices
from tunesmith.ranking.prompts import Question
from tunesmith.store import disk_errors, fsync


@dataclass(frozen=True)
class Judgment:
    """One line of the file.

    Args:
        place: where the line begins, in bytes.
        content: the line as JSON data.
    """

    place: int
    content: dict[str, Any]

    @property
    def row(self) -> str:
        """The question that was judged."""
        return self.content["row"]

    @property
    def skipped(self) -> bool:
        """Whether the person said nothing about it."""
        return bool(self.content.get("skipped"))

    @property
    def scores(self) -> list[tuple[str, float]]:
        """Each participant with the score of each of its answers."""
        judged = list(zip(self.content["runs"], self.content["scores"], strict=True))
        judged += [(empty["runs"], empty["score"]) for empty in self.content.get("empty", ())]
        return [(name, score) for names, score in judged for name in names]


class Judgments:
    """The file of rankings, held by one process at a time.

    Args:
        file: opened for reading and appending, locked.
        repaired: bytes of a cut last line that were taken away.
    """

    def __init__(self, path: Path, file: BinaryIO, kept: list[Judgment], repaired: int) -> None:
        self.path = path
        self.kept = kept
        self.repaired = repaired
        self._file = file

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[Judgments]:
        """Open or begin a file of rankings; a last line that a kill cut short is taken away.

        Raises:
            DiskError: it cannot be written.
            LockedError: another process is writing it.
            DataError: a line is no ranking that was written here.
        """
        try:
            with disk_errors(path):
                is_new = not path.exists()
                path.parent.mkdir(parents=True, exist_ok=True)
                file = path.open("a+b")
                if is_new:
                    fsync(path.parent)
        except OSError as error:
            raise DiskError(
                f"{path} cannot be written: {error.strerror or error}", where=str(path), fix="Name another with --to."
            ) from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise LockedError(
                    f"another process is writing {path}", where=str(path), fix="End it, or name another with --to."
                ) from None
            kept, end = _read(path, file)
            size = file.seek(0, os.SEEK_END)
            judgments = cls(path, file, kept, size - end)
            if size > end:
                judgments._cut(end)
            yield judgments

    def of(self, row: str) -> Judgment | None:
        """What was said about a question; None before that."""
        return next((judgment for judgment in self.kept if judgment.row == row), None)

    def add(self, question: Question, shown: Sequence[Choice], scores: Sequence[float] | None, seed: int) -> None:
        """Append a judgment and force it to the disk.

        Args:
            shown: the answers in the order in which they stood.
            scores: of each of them, the best the highest; None for a question that was skipped.

        Raises:
            DiskError: it is not kept.
        """
        content = ranking(question, shown, scores, seed)
        line = json.dumps(content, ensure_ascii=False).encode("utf-8", errors="backslashreplace") + b"\n"
        with disk_errors(self.path):
            place = self._file.seek(0, os.SEEK_END)
            self._file.write(line)
            self._file.flush()
            os.fsync(self._file.fileno())
        self.kept.append(Judgment(place, content))

    def undo(self) -> Judgment | None:
        """Take the last judgment away; None when there is none."""
        if not self.kept:
            return None
        last = self.kept.pop()
        self._cut(last.place)
        return last

    def check(self, book: Book) -> None:
        """Refuse a file whose lines do not belong to the answers in `book`.

        Raises:
            DataError: with the line.
        """
        known = {question.row: question for question in book.to_judge}
        for number, judgment in enumerate(self.kept, 1):
            question = known.get(judgment.row)
            texts = {choice.text for choice in choices(question, book.seed)} if question else set()
            same = question is not None and question.prompt == judgment.content["prompt"]
            if not same or not texts >= {*judgment.content["answers"]}:
                raise DataError(
                    "this ranking is of another prompt or of other answers than those that were drawn",
                    where=f"{self.path}:{number}",
                    fix="Write to another file with --to, or restore the file.",
                )

    def _cut(self, end: int) -> None:
        with disk_errors(self.path):
            self._file.truncate(end)
            os.fsync(self._file.fileno())


def ranking(question: Question, shown: Sequence[Choice], scores: Sequence[float] | None, seed: int) -> dict[str, Any]:
    """A judgment as a row that loaders read: the answers with their scores, the best first.

    A question that was skipped has a score of 0 for every answer, which makes no pair. No model can be trained on
    an answer in which there is nothing, so it stands beside the others.
    """
    given = [0] * len(shown) if scores is None else list(scores)
    order = sorted(range(len(shown)), key=lambda place: -given[place])
    full = [place for place in order if not shown[place].empty]
    row: dict[str, Any] = {
        **question.more,
        "prompt": question.prompt,
        "answers": [shown[place].text for place in full],
        "scores": [given[place] for place in full],
        "runs": [list(shown[place].voices) for place in full],
        "shown": [place + 1 for place in full],
        "row": question.row,
        "seed": seed,
        "time": now(),
    }
    empty = [
        {"runs": list(shown[place].voices), "score": given[place], "shown": place + 1}
        for place in order
        if shown[place].empty
    ]
    return row | ({"empty": empty} if empty else {}) | ({"skipped": True} if scores is None else {})


def _read(path: Path, file: BinaryIO) -> tuple[list[Judgment], int]:
    """The judgments in a file, and where the last whole line ends."""
    file.seek(0)
    kept: list[Judgment] = []
    end = 0
    for number, line in enumerate(file, 1):
        if not line.endswith(b"\n"):  # cut by a kill: it was never answered for
            break
        try:
            content = json.loads(line)
            judgment = Judgment(end, content)
            if not isinstance(judgment.row, str) or "prompt" not in content or not judgment.scores:
                raise ValueError("a column is missing")
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"this line is no ranking of `tunesmith rank`: {error}",
                where=f"{path}:{number}",
                fix="Restore the file from a copy, take the line out, or write to another file with --to.",
            ) from error
        kept.append(judgment)
        end += len(line)
    return kept, end
