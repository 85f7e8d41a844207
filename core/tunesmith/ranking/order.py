"""The order of answers: how they are shuffled, and how a person writes which is better."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith.ranking.prompts import Question


@dataclass(frozen=True)
class Choice:
    """One text to be judged, with those who gave it: equal texts are shown once.

    Args:
        voices: participants, one as often as it gave this text.
    """

    text: str
    voices: tuple[str, ...]

    @property
    def empty(self) -> bool:
        """Whether there is nothing in it that a model could be trained on."""
        return not self.text.strip() or "\0" in self.text


def choices(question: Question, seed: int) -> list[Choice]:
    """The different answers to a question in the order in which they are shown.

    The order is drawn by the seed and the row's name, so that it says nothing about who gave them and is the same
    when the question comes up again. Blanks around a text make no difference.
    """
    given: dict[str, tuple[str, list[str]]] = {}
    for name, texts in question.answers.items():
        for text in texts:
            given.setdefault(text.strip(), (text, []))[1].append(name)
    found = [Choice(text, tuple(voices)) for text, voices in given.values()]
    return random.Random(f"{seed}:{question.row}").sample(found, len(found))


def read_order(text: str, count: int) -> list[int]:
    """The score of each of `count` answers, the best the highest, from what a person wrote.

    `2>1=3` puts 2 first and the others level. A blank, a comma or nothing between single digits is `>`. `=` alone
    is a tie of all; of two answers, the better one's number is enough.

    Raises:
        ValueError: it cannot be read; the text says why.
    """
    written = re.sub(r"\s*([>=])\s*", r"\1", text.strip())
    if written == "=":
        return [0] * count
    if count == 2 and written in ("1", "2"):
        written = f"{written}>{3 - int(written)}"
    if count < 10:
        written = re.sub(r"(?<=\d)(?=\d)", ">", written)
    written = re.sub(r"[\s,]+", ">", written)
    if not re.fullmatch(r"\d+([>=]\d+)*", written):
        raise ValueError(f"{text.strip()!r} is no order")
    levels = [[int(number) for number in level.split("=")] for level in written.split(">")]
    named = [number for level in levels for number in level]
    for number in named:
        if not 1 <= number <= count:
            raise ValueError(f"there is no answer {number}")
        if named.count(number) > 1:
            raise ValueError(f"{number} stands there twice")
    if missing := sorted(set(range(1, count + 1)) - set(named)):
        raise ValueError(f"{', '.join(map(str, missing))} {'is' if len(missing) == 1 else 'are'} missing")
    score = {number: len(levels) - 1 - place for place, level in enumerate(levels) for number in level}
    return [score[number] for number in range(1, count + 1)]


def example(count: int) -> str:
    """What a person may write for `count` answers."""
    if count == 2:
        return "1 or 2 for the better one, = for a tie"
    numbers: Sequence[str] = [str(number) for number in range(1, count + 1)]
    return f"the best first, such as {'>'.join([numbers[1], '='.join([numbers[0], *numbers[2:]])])}"
