"""The rewards that a recipe names without a function: `exact-answer`, `format`, `length`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from tunesmith_transformers.online.prompts import Prompt
from tunesmith_transformers.online.settings import ScoreSettings
from tunesmith_transformers.tokens.encoding import Unusable, reference

#: A sign counts where nothing stands before it, or a currency behind it: "5-3" holds 5 and 3, "-$5" holds -5. Digits
#: that commas join are one: "1,2" is a list or a decimal comma, and neither 1 nor 2 nor 12.
NUMBER = re.compile(r"(?:(?<!\w)[-+\u2212])?[$\u00a3\u20ac\u00a5]?(?:\d+(?:[,_]\d+)*(?:\.\d+)?|\.\d+)")
#: What a number is where it has separators: groups of three digits.
GROUPED = re.compile(r"[1-9]\d{0,2}(?:([,_])\d{3})(?:\1\d{3})*(?:\.\d+)?")

#: `(prompts, answers, texts) -> list[float]`: answers as token ids, texts as what they say.
Named = Callable[[Sequence[Prompt], Sequence[Sequence[int]], Sequence[str]], list[float]]


class ExactAnswer:
    """1 where an answer ends in the row's right answer, else 0 (Cobbe et al. 2021, arXiv:2110.14168, section 2).

    Args:
        column: with the right answer; None takes the row's completion.
        marker: before the final answer; empty takes the last number of a text.
    """

    def __init__(self, column: str | None, marker: str, record_type: str) -> None:
        self.column = column
        self.marker = marker
        self.record_type = record_type

    def __call__(
        self, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]], texts: Sequence[str]
    ) -> list[float]:
        return [
            float(same_answer(self._found(text), self.right(prompt.source)))
            for prompt, text in zip(prompts, texts, strict=True)
        ]

    def right(self, row: Mapping[str, Any]) -> str:
        """The right answer of a row; where it has no marker, all of it.

        Raises:
            Unusable: the row has none.
        """
        given = reference(row, self.record_type) if self.column is None else row.get(self.column)
        whole = "" if given is None else str(given)
        right = whole.strip() if self.marker and self.marker not in whole else self._found(whole)
        if not right:
            where = f"in column {self.column!r}" if self.column else "in its completion"
            raise Unusable(f"no right answer {where} (answer_column, and keep in [data])")
        return right

    def _found(self, text: str) -> str | None:
        """The final answer of a text; None where it gives none."""
        if not self.marker:
            numbers = NUMBER.findall(text)
            return numbers[-1] if numbers else None
        _, marker, after = text.rpartition(self.marker)
        return after.strip().partition("\n")[0].strip() if marker else None


def same_answer(found: str | None, right: str) -> bool:
    """Whether two final answers are the same: as numbers where both hold exactly one, else as text without case.

    Thousands separators, currency, units and trailing zeros make no difference: "$1,200.00" is "1200". Commas that
    separate no thousands do: "1,2" is not "12".
    """
    if found is None:
        return False
    one, other = number_of(found), number_of(right)
    if one is not None and other is not None:
        return one == other
    return " ".join(found.rstrip(".").split()).casefold() == " ".join(right.rstrip(".").split()).casefold()


def number_of(text: str) -> Decimal | None:
    """The number that a short text holds, when it holds exactly one, with commas at its thousands only."""
    numbers = NUMBER.findall(text)
    if len(numbers) != 1:
        return None
    sign = -1 if numbers[0][0] in "-\u2212" else 1
    digits = numbers[0].lstrip("+-\u2212$\u00a3\u20ac\u00a5")
    if ("," in digits or "_" in digits) and not GROUPED.fullmatch(digits):
        return None
    return sign * Decimal(digits.replace(",", "").replace("_", ""))


class Format:
    """1 where a pattern is found in an answer, else 0."""

    def __init__(self, pattern: str) -> None:
        self.pattern = re.compile(pattern)

    def __call__(
        self, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]], texts: Sequence[str]
    ) -> list[float]:
        return [float(self.pattern.search(text) is not None) for text in texts]


class Length:
    """0 for a length within bounds, falling linearly to -1 over `slack` tokens outside them.

    With an upper bound alone this is the soft overlong punishment of Yu et al. 2025, arXiv:2503.14476, equation 13.

    Args:
        shortest, longest, slack: in tokens, the end token included; `longest` None is no bound.
    """

    def __init__(self, shortest: int, longest: int | None, slack: int) -> None:
        self.shortest = shortest
        self.longest = longest
        self.slack = slack

    def __call__(
        self, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]], texts: Sequence[str]
    ) -> list[float]:
        return [-min(self._outside(len(ids)) / self.slack, 1.0) for ids in answers]

    def _outside(self, tokens: int) -> int:
        over = tokens - self.longest if self.longest is not None else 0
        return max(self.shortest - tokens, over, 0)


def make(name: str, settings: ScoreSettings, record_type: str) -> Named:
    """The reward of this name, with the settings that are its own.

    Args:
        record_type: of the rows.
    """
    if name == "exact-answer":
        return ExactAnswer(settings.answer_column, settings.answer_marker, record_type)
    if name == "format":
        assert settings.format_pattern is not None  # the plan has checked it
        return Format(settings.format_pattern)
    assert name == "length"
    return Length(settings.length_min, settings.length_max, settings.length_slack)
