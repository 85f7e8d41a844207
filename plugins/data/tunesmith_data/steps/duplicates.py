"""The step `deduplicate`: rows whose text, or most of it, was there before."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from tunesmith import Context, Row
from tunesmith.steps import Prepare
from tunesmith_data.steps.settings import DeduplicateSettings
from tunesmith_data.steps.texts import text_of, watched

PUNCTUATION = re.compile(r"[^\w\s]+")
OVERLAP = "overlap with the training rows"


def deduplicate(settings: DeduplicateSettings, context: Context) -> Prepare:
    """Drop rows whose text repeats that of an earlier row; held-out rows that repeat a training row are an overlap."""

    def prepare(rows: Iterable[Row]) -> Iterator[Row]:
        exact: dict[bytes, tuple[str, bytes, bool]] = {}  # of each text its first row, that row's label, held out?
        near = Near(settings.threshold, settings.ngram, settings.permutations) if settings.method == "minhash" else None
        for row in watched(rows, settings.columns, "deduplicate"):
            text = comparable(text_of(row.values, settings.columns), settings.ignore)
            if not text:
                yield row  # what has no text is for others to judge
                continue
            held, label = row.part == "validation", _digest(json.dumps(row.values.get("label"), default=repr))
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

    def match(self, text: str) -> tuple[str, float, bool] | None:
        """The most similar text at or above the threshold: its name, the similarity, and whether it is held out."""
        self._last = self._signature(text)
        best: tuple[str, float, bool] | None = None
        for number in sorted(self._index.query(self._last)):
            name, held, values = self._known[number]
            likeness = float((values == self._last.hashvalues).mean())
            if likeness >= self.threshold and (best is None or likeness > best[1]):
                best = (name, likeness, held)
        return best

    def add(self, name: str, held: bool = False) -> None:
        """Keep the text that `match` was last asked about."""
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


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
