"""The steps `deduplicate` and `overlap`: rows whose text, or most of it, is in another row."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tunesmith import Context, Row, Spool
from tunesmith.steps import Prepare
from tunesmith_data.steps.settings import DeduplicateSettings, LikenessSettings, OverlapSettings
from tunesmith_data.steps.texts import text_of, watched
from tunesmith_data.values import VERDICTS

PUNCTUATION = re.compile(r"[^\w\s]+")
OVERLAP = "overlap with the training rows"


def deduplicate(settings: DeduplicateSettings, context: Context) -> Prepare:
    """Drop rows whose text repeats that of an earlier row; held-out rows that repeat a training row are an overlap."""

    def prepare(rows: Iterable[Row]) -> Iterator[Row]:
        exact: dict[bytes, tuple[str, bytes, bool]] = {}  # of each text its first row, that row's label, held out?
        near = _near(settings)
        for row in watched(rows, settings.columns, "deduplicate"):
            text = comparable(text_of(row.values, settings.columns, declared=True), settings.ignore)
            if not text:
                yield row  # what has no text is for others to judge
                continue
            held, label = row.part == "validation", _digest(_verdict(row.values))
            key = _digest(text)
            first = exact.setdefault(key, (row.name, label, held))
            if first[0] != row.name:
                reason = "duplicate" if first[1] == label else "duplicate with another label"
                yield row.drop(OVERLAP if held and not first[2] else reason, f"of {first[0]}")
                continue
            if near is not None and (found := near.match(text)):
                name, likeness, there = found
                reason = f"near {OVERLAP}" if held and not there else "near duplicate"
                yield row.drop(reason, f"{likeness:.2f} like {name}")
                continue
            if near is not None:
                near.add(row.name, held)
            yield row

    return prepare


def overlap(settings: OverlapSettings, context: Context) -> Prepare:
    """Drop what stands on both sides of the split: the held-out rows, or the training rows that repeat them."""

    def prepare(rows: Iterable[Row]) -> Iterator[Row]:
        waiting, known = Spool(context.cache), _Known(settings)
        kept = "training" if settings.drop == "held-out" else "held-out"
        for row in watched(rows, settings.columns, "overlap"):
            if (row.part == "validation") == (kept == "held-out"):
                known.add(row)
                yield row
            elif settings.drop == "held-out":  # the training rows have all come before
                yield known.judged(row, f"overlap with the {kept} rows")
            else:
                waiting.add(row.name, row.values, row.history)
        for number in range(len(waiting)):
            name, values, history = waiting.get(number)
            yield known.judged(Row(name, values, "train", history), f"overlap with the {kept} rows")

    return prepare


class _Known:
    """The texts of one side of the split."""

    def __init__(self, settings: LikenessSettings) -> None:
        self.settings = settings
        self._exact: dict[bytes, str] = {}
        self._near = _near(settings)

    def add(self, row: Row) -> None:
        """Keep a row's text; rows without text overlap with nothing."""
        text = self._text(row)
        if not text or self._exact.setdefault(_digest(text), row.name) != row.name or self._near is None:
            return
        self._near.ask(text)
        self._near.add(row.name)

    def judged(self, row: Row, reason: str) -> Row:
        """The row, dropped when its text is known."""
        text = self._text(row)
        if not text:
            return row
        if there := self._exact.get(_digest(text)):
            return row.drop(reason, f"row {there}")
        if self._near is not None and (found := self._near.match(text)):
            return row.drop(f"near {reason}", f"{found[1]:.2f} like {found[0]}")
        return row

    def _text(self, row: Row) -> str:
        return comparable(text_of(row.values, self.settings.columns, declared=True), self.settings.ignore)


def _near(settings: LikenessSettings) -> Near | None:
    return Near(settings.threshold, settings.ngram, settings.permutations) if settings.method == "minhash" else None


class Near:
    """Texts by the MinHash signatures of their n-grams (Broder 1997), with locality-sensitive hashing to look them up.

    The similarity of two texts is the share of their n-grams that both have (Jaccard), estimated by the share of
    equal hash values.
    """

    def __init__(self, threshold: float, ngram: int, permutations: int) -> None:
        from datasketch import MinHash, MinHashLSH

        self.threshold = threshold
        self.ngram = ngram
        self.permutations = permutations
        self._minhash: Any = MinHash
        self._index = MinHashLSH(threshold=threshold, num_perm=permutations)
        self._known: list[tuple[str, bool, Any]] = []  # name, held out?, signature
        self._last: Any = None

    def ask(self, text: str) -> None:
        """The text that `add` shall keep."""
        self._last = self._signature(text)

    def match(self, text: str) -> tuple[str, float, bool] | None:
        """The most similar text at or above the threshold: its name, the similarity, and whether it is held out."""
        self.ask(text)
        best: tuple[str, float, bool] | None = None
        for number in sorted(self._index.query(self._last)):
            name, held, values = self._known[number]
            likeness = float((values == self._last.hashvalues).mean())
            if likeness >= self.threshold and (best is None or likeness > best[1]):
                best = (name, likeness, held)
        return best

    def add(self, name: str, held: bool = False) -> None:
        """Keep the text that was last asked about."""
        self._index.insert(len(self._known), self._last)
        self._known.append((name, held, self._last.hashvalues.astype("uint32")))

    def _signature(self, text: str) -> Any:
        words = text.split()
        count = max(1, len(words) - self.ngram + 1)
        grams = {" ".join(words[start : start + self.ngram]) for start in range(count)}
        made = self._minhash(num_perm=self.permutations, seed=1)
        made.update_batch([gram.encode("utf-8", "surrogatepass") for gram in grams])
        return made


def comparable(text: str, ignore: Iterable[str]) -> str:
    """A text without what does not count in a comparison."""
    if "punctuation" in ignore:
        text = PUNCTUATION.sub(" ", text)
    if "case" in ignore:
        text = text.casefold()
    return " ".join(text.split()) if "whitespace" in ignore else text


def _verdict(values: Mapping[str, Any]) -> str:
    """What a row says of its text."""
    return json.dumps([values.get(name) for name in VERDICTS], default=repr)


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
