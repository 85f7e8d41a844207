"""Who won: wins, ties and losses of each participant, its win rate, and the strengths that explain them."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

from tunesmith.ranking.book import Book
from tunesmith.ranking.judgments import Judgments
from tunesmith.stats import wilson

RESAMPLES = 500
#: Elo points of a factor e between odds.
ELO = 400 / math.log(10)


@dataclass(frozen=True)
class Score:
    """How one participant fared.

    Args:
        wins, ties, losses: of comparisons of one of its answers with one of another's.
        rate: mean over prompts of the share of comparisons won, a tie counting half; None before there is one.
        low, high: its 95 % interval over prompts.
        elo, elo_low, elo_high: strength in the Bradley-Terry model in Elo points, 0 being the mean of all; None
            where two are compared, whose rate says the same.
    """

    name: str
    run: str
    base: bool
    wins: int
    ties: int
    losses: int
    rate: float | None
    low: float | None
    high: float | None
    elo: float | None = None
    elo_low: float | None = None
    elo_high: float | None = None


@dataclass(frozen=True)
class Tally:
    """What the judgments come to.

    Args:
        prompts: that every participant answered.
        judged: of these, those that were put in order.
        skipped: those to which the person said nothing.
        alike: those to which all gave the same answer: ties that nobody has to judge.
        left: those still to be judged.
        scores: the best participant first.
        pairs: each two participants with `wins` and `losses` of the first, and `ties`.
    """

    prompts: int
    judged: int
    skipped: int
    alike: int
    left: int
    scores: tuple[Score, ...]
    pairs: tuple[dict[str, Any], ...]

    def describe(self, *, names: bool) -> dict[str, Any]:
        """The tally as JSON-ready data; without the names of the runs, only how far it is."""
        content = asdict(self)
        scores, pairs = content.pop("scores"), content.pop("pairs")
        return {**content, "runs": list(scores) if names else None, "pairs": list(pairs) if names else None}


Scored = Sequence[tuple[str, float]]


def tally(book: Book, judgments: Judgments) -> Tally:
    """Count what was judged; answers that were alike are ties."""
    judged = [judgment.scores for judgment in judgments.kept if not judgment.skipped]
    skipped = len(judgments.kept) - len(judged)
    alike = [[(name, 0.0) for name in book.names for _ in range(book.draws)] for _ in book.alike]
    compared: list[Scored] = [*judged, *alike]
    scores = [_score(index, book, compared) for index in range(len(book.participants))]
    if len(scores) > 2 and compared:
        scores = _with_strengths(scores, compared, book.seed)
    return Tally(
        prompts=len(book.asked),
        judged=len(judged),
        skipped=skipped,
        alike=len(alike),
        left=len(book.to_judge) - len(judgments.kept),
        scores=tuple(sorted(scores, key=lambda score: -(score.rate or 0))),
        pairs=tuple(_pair(one, two, compared) for one, two in combinations(book.names, 2)),
    )


def _score(index: int, book: Book, compared: Sequence[Scored]) -> Score:
    participant = book.participants[index]
    counts: tuple[int, int, int] = (0, 0, 0)
    shares = []
    for scored in compared:
        found = _counts(participant.name, None, scored)
        if sum(found):
            shares.append((found[0] + found[1] / 2) / sum(found))
            counts = (counts[0] + found[0], counts[1] + found[1], counts[2] + found[2])
    rate = sum(shares) / len(shares) if shares else None
    low, high = wilson(rate, len(shares)) if rate is not None else (None, None)
    return Score(participant.name, participant.artifact, participant.base, *counts, rate, low, high)


def _counts(one: str, two: str | None, scored: Scored) -> tuple[int, int, int]:
    """Wins, ties and losses of `one` against `two`, or against all others, on one prompt."""
    mine = [score for name, score in scored if name == one]
    others = [score for name, score in scored if name != one and two in (None, name)]
    wins = sum(a > b for a in mine for b in others)
    ties = sum(a == b for a in mine for b in others)
    return wins, ties, len(mine) * len(others) - wins - ties


def _pair(one: str, two: str, compared: Sequence[Scored]) -> dict[str, Any]:
    counts = [_counts(one, two, scored) for scored in compared]
    wins, ties, losses = (sum(count[kind] for count in counts) for kind in range(3))
    return {"one": one, "two": two, "wins": wins, "ties": ties, "losses": losses}


def _with_strengths(scores: Sequence[Score], compared: Sequence[Scored], seed: int) -> list[Score]:
    names = [score.name for score in scores]
    won = [_shares(names, scored) for scored in compared]
    found = bradley_terry(_summed(won), len(names))
    draw = random.Random(seed)
    drawn = [bradley_terry(_summed(draw.choices(won, k=len(won))), len(names)) for _ in range(RESAMPLES)]
    made = []
    for index, score in enumerate(scores):
        spread = sorted(strengths[index] for strengths in drawn)
        low, high = spread[int(0.025 * RESAMPLES)], spread[min(RESAMPLES - 1, int(0.975 * RESAMPLES))]
        elo = [round(ELO * value, 1) for value in (found[index], low, high)]
        made.append(replace(score, elo=elo[0], elo_low=elo[1], elo_high=elo[2]))
    return made


Won = Mapping[tuple[int, int], float]


def _shares(names: Sequence[str], scored: Scored) -> dict[tuple[int, int], float]:
    """By winner and loser, the share of comparisons on one prompt that the first won; a tie is half for each."""
    shares = {}
    for one, two in combinations(range(len(names)), 2):
        wins, ties, losses = _counts(names[one], names[two], scored)
        if total := wins + ties + losses:
            shares[one, two] = (wins + ties / 2) / total
            shares[two, one] = (losses + ties / 2) / total
    return shares


def _summed(won: Sequence[Won]) -> dict[tuple[int, int], float]:
    total: dict[tuple[int, int], float] = {}
    for shares in won:
        for pair, share in shares.items():
            total[pair] = total.get(pair, 0.0) + share
    return total


def bradley_terry(won: Won, count: int, *, prior: float = 0.5, steps: int = 200) -> list[float]:
    """Log strengths with mean 0, such that P(i beats j) = 1 / (1 + exp(strength j - strength i)).

    Found by Hunter's iteration (2004, "MM algorithms for generalized Bradley-Terry models", equation 3). Each two
    count as if each had also beaten the other `prior` times, so that who never lost has a finite strength.

    Args:
        won: by winner and loser, how often; a tie is half for each.
        count: how many there are.
    """
    strength = [1.0] * count
    wins = [sum(won.get((i, j), 0.0) + prior for j in range(count) if j != i) for i in range(count)]
    met = {
        (i, j): won.get((i, j), 0.0) + won.get((j, i), 0.0) + 2 * prior
        for i in range(count)
        for j in range(count)
        if i != j
    }
    for _ in range(steps):
        new = [
            wins[i] / sum(met[i, j] / (strength[i] + strength[j]) for j in range(count) if j != i) for i in range(count)
        ]
        mean = math.exp(sum(map(math.log, new)) / count)
        new = [value / mean for value in new]
        moved = max(abs(math.log(a / b)) for a, b in zip(new, strength, strict=True))
        strength = new
        if moved < 1e-6:
            break
    return [math.log(value) for value in strength]
