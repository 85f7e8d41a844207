"""Rankings of answers to one prompt: reading them, and turning them into pairs, and pairs into single answers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import combinations, pairwise
from typing import Any

from tunesmith import Context, Row
from tunesmith.spec import RecordType
from tunesmith_data.messages import Message, check_order, messages
from tunesmith_data.pairs import as_assistant, as_user
from tunesmith_data.raw import kind
from tunesmith_data.settings import RowSettings
from tunesmith_data.values import Unusable, clean, get, text

#: Types of rows that say which answers are wanted, and what `pairs` makes of them.
PAIRS: tuple[RecordType, ...] = ("preference", "unpaired-preference")
MADE: dict[str, RecordType] = {"unpaired": "unpaired-preference", "wanted": "prompt-completion"}
INSTEAD = {
    "unpaired": 'pairs = "unpaired" in [data] makes of each pair its two answers with a label',
    "wanted": 'pairs = "wanted" in [data] trains on the wanted answers alone',
}


def ranking(row: Mapping[str, Any]) -> dict[str, Any]:
    """A prompt with its answers, the best first; with `scores`, in the order of these.

    Raises:
        Unusable: fewer than two answers, two equal ones, or scores that do not fit.
    """
    value = get(row, "answers")
    if not isinstance(value, (list, tuple)):
        raise Unusable(f"'answers' is {kind(value)}, not a list")
    if len(value) < 2:
        raise Unusable("'answers' has fewer than two")
    prompt: str | list[Message] = get(row, "prompt")
    prompt = messages(prompt, "prompt") if isinstance(prompt, (list, tuple)) else text(row, "prompt")
    answers = [messages(a, "answers") if isinstance(a, (list, tuple)) else clean(a, "an answer") for a in value]
    if not all(isinstance(side, str) for side in (prompt, *answers)):
        prompt, answers = as_user(prompt), [as_assistant(answer) for answer in answers]
        if prompt[-1]["role"] not in ("user", "tool"):
            raise Unusable("'prompt' does not end with the user")
        for answer in answers:
            check_order([*prompt, *answer])
    if any(one == two for one, two in combinations(answers, 2)):
        raise Unusable("two of the answers are equal")
    if row.get("scores") is None:
        return {"prompt": prompt, "answers": answers}
    scores = _scores(row["scores"], len(answers))
    order = sorted(range(len(answers)), key=lambda index: -scores[index])
    return {"prompt": prompt, "answers": [answers[i] for i in order], "scores": [scores[i] for i in order]}


def expanded(rows: Iterable[Row], settings: RowSettings, context: Context) -> Iterator[Row]:
    """Rankings as pairs, and pairs as single answers where the settings want it; each row more counts as read."""
    for row in rows:
        made = _made(row, settings)
        if made:
            context.ledger.read(len(made) - 1)
        else:
            reason = "an unwanted answer, left out by `pairs`" if _single(row) else "all answers have the same score"
            context.ledger.drop(row.name, reason, expected=True)
        yield from made


def _made(row: Row, settings: RowSettings) -> list[Row]:
    """What becomes of a row: its pairs, their answers, or the wanted answer alone."""
    if _single(row):
        if settings.pairs != "wanted":
            return [row]
        rest = {column: value for column, value in row.values.items() if column != "label"}
        return [replace(row, values=rest)] if row.values["label"] else []
    pairs = list(_pairs(row, settings.ranking))
    if settings.pairs == "keep":
        return pairs
    if settings.pairs == "unpaired":
        return [single for pair in pairs for single in _singles(pair)]
    best = next((single for pair in pairs for single in _singles(pair)), None)
    if best is None:
        return []
    rest = {column: value for column, value in best.values.items() if column != "label"}
    return [replace(best, name=row.name, values=rest)]


def _single(row: Row) -> bool:
    """Whether a row is an answer with its verdict, and no pair."""
    return "completion" in row.values


def _pairs(row: Row, how: str) -> Iterator[Row]:
    """The pairs of a ranking, named by the places of their answers; any other row is a pair already."""
    if "answers" not in row.values:
        yield row
        return
    answers, scores = row.values["answers"], row.values.get("scores")
    rest = {column: value for column, value in row.values.items() if column not in ("answers", "scores")}
    places = range(len(answers))
    chosen = {"all": combinations(places, 2), "adjacent": pairwise(places), "best-worst": [(0, len(answers) - 1)]}[how]
    for better, worse in chosen:
        values = {**rest, "chosen": answers[better], "rejected": answers[worse]}
        if scores is not None:
            if scores[better] == scores[worse]:
                continue  # a tie says nothing
            values["margin"] = scores[better] - scores[worse]
        yield replace(row, name=f"{row.name}/{better + 1}-{worse + 1}", values=values)


def _singles(row: Row) -> Iterator[Row]:
    """The two answers of a pair with their labels."""
    rest = {column: value for column, value in row.values.items() if column not in ("chosen", "rejected", "margin")}
    for column, label in (("chosen", True), ("rejected", False)):
        values = {**rest, "completion": row.values[column], "label": label}
        yield replace(row, name=f"{row.name}/{column}", values=values)


def _scores(value: Any, count: int) -> list[float]:
    if not isinstance(value, (list, tuple)):
        raise Unusable(f"'scores' is {kind(value)}, not a list")
    if len(value) != count:
        raise Unusable("'scores' and 'answers' differ in number")
    if any(isinstance(score, bool) or not isinstance(score, (int, float)) for score in value):
        raise Unusable("a score is not a number")
    if not all(math.isfinite(score) for score in value):
        raise Unusable("a score is not finite")
    return [float(score) for score in value]
