"""Changes of words: typing errors, case, and noise by n-gram smoothing."""

from __future__ import annotations

import bisect
import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable
from itertools import accumulate, pairwise

WORD = re.compile(r"[^\W\d_]{3,}")
ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
#: Keys beside each key.
BESIDE = {
    key: "".join(ROWS[other][max(0, place - 1) : place + 2] for other in (line - 1, line, line + 1) if 0 <= other < 3)
    for line, keys in enumerate(ROWS)
    for place, key in enumerate(keys)
}


def spaced(text: str, rate: float, chance: random.Random, change: Callable[[str, random.Random], str | None]) -> str:
    """The text with about `rate` of its words of three letters or more changed, one at least where one can be."""
    words = list(WORD.finditer(text))
    wanted = max(1, round(rate * len(words)))
    done: dict[int, str] = {}
    for index in chance.sample(range(len(words)), len(words)):
        if len(done) == wanted:
            break
        made = change(words[index][0], chance)
        if made is not None and made != words[index][0]:
            done[index] = made
    pieces, place = [], 0
    for index in sorted(done):
        pieces += [text[place : words[index].start()], done[index]]
        place = words[index].end()
    return "".join((*pieces, text[place:]))


def typo(word: str, chance: random.Random) -> str:
    """One slip of the fingers: two letters exchanged, one left out, one twice, or the key beside."""
    place = chance.randrange(len(word) - 1)
    kind = chance.choice(("exchange", "omit", "double", "beside"))
    letter = word[place]
    if kind == "exchange":
        return word[:place] + word[place + 1] + letter + word[place + 2 :]
    if kind == "omit":
        return word[:place] + word[place + 1 :]
    if kind == "double":
        return word[:place] + letter * 2 + word[place + 1 :]
    beside = BESIDE.get(letter.lower(), letter).replace(letter.lower(), "")
    key = chance.choice(beside) if beside else letter
    return word[:place] + (key.upper() if letter.isupper() else key) + word[place + 1 :]


def recased(text: str, chance: random.Random) -> str | None:
    """The text in lower case, in capitals, or without a capital at its beginning."""
    made = [text.lower(), text.upper(), text[:1].lower() + text[1:]]
    others = [other for other in dict.fromkeys(made) if other != text]
    return chance.choice(others) if others else None


class Noise:
    """Noise by back-off, as Xie et al. 2017 (1703.02573) derive it from Kneser-Ney smoothing, section 3.3.

    A word is replaced the more often, the more different words follow it (it says little about the next one), and by a
    word that is drawn by how many different words precede it.
    """

    def __init__(self) -> None:
        self._count: Counter[str] = Counter()
        self._after: dict[str, set[str]] = defaultdict(set)
        self._before: Counter[str] = Counter()
        self._drawn_from: tuple[list[str], list[int]] | None = None

    def count(self, text: str) -> None:
        """Learn the words of a training text."""
        words = text.split()
        self._count.update(words)
        for one, two in pairwise(words):
            if two not in self._after[one]:
                self._after[one].add(two)
                self._before[two] += 1

    def applied(self, text: str, rate: float, chance: random.Random) -> str | None:
        """The text with noise: each word is replaced with probability rate x N1+(word, .) / c(word)."""
        if self._drawn_from is None:
            words = sorted(self._before)
            self._drawn_from = words, list(accumulate(self._before[word] for word in words))
        words, sums = self._drawn_from
        pieces = re.split(r"(\s+)", text)
        changed = False
        for index, word in enumerate(pieces):
            if not self._count[word] or not sums:
                continue
            if chance.random() < rate * len(self._after[word]) / self._count[word]:
                pieces[index] = words[bisect.bisect(sums, chance.randrange(sums[-1]))]
                changed |= pieces[index] != word
        return "".join(pieces) if changed else None
