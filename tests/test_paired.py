"""The paired test, its interval, and what may be said of a measure, against sums worked out here."""

from __future__ import annotations

import itertools
import math
import random
from math import comb

import pytest

from tunesmith.paired import compare_measure, compare_measures, sign_flip
from tunesmith.verdict import in_words, p_value


def measure(rows: list[float], better: str = "higher", *, logs: bool = False, weights: list[float] | None = None):
    counts = weights or [1.0] * len(rows)
    mean = sum(w * r for w, r in zip(counts, rows, strict=True)) / sum(counts)
    value = math.exp(mean) if logs else mean
    return {"value": value, "better": better, "n": len(rows), "per_row": rows, "weights": weights or []}


def test_right_and_wrong_answers_are_tested_by_mcnemar() -> None:
    """Of 12 answers that changed 10 got right: the exact binomial probability, two-sided."""
    differences = [1.0] * 10 + [-1.0] * 2 + [0.0] * 40
    expected = 2 * sum(comb(12, k) for k in range(10, 13)) / 2**12
    assert sign_flip(differences, seed=1) == pytest.approx(expected)


def test_few_rows_try_every_choice_of_signs() -> None:
    differences = [0.3, -0.1, 0.7, 0.25, 0.05, -0.2]
    observed = abs(sum(differences))
    sums = [abs(sum(s * d for s, d in zip(signs, differences, strict=True))) for signs in _signs(6)]
    assert sign_flip(differences, seed=1) == sum(total >= observed - 1e-12 for total in sums) / 64


def _signs(count: int) -> itertools.product:
    return itertools.product((-1, 1), repeat=count)


def test_many_rows_agree_with_the_normal_approximation() -> None:
    draw = random.Random(3)
    differences = [draw.gauss(0.15, 1.0) for _ in range(200)]
    z = abs(sum(differences)) / math.sqrt(sum(value * value for value in differences))
    assert sign_flip(differences, seed=1) == pytest.approx(math.erfc(z / math.sqrt(2)), abs=0.015)


def test_p_is_even_when_neither_is_better() -> None:
    """Of 200 pairs without a difference about 5 % fall below 0.05."""
    draw = random.Random(4)
    found = [sign_flip([draw.gauss(0, 1) for _ in range(10)], seed=1) for _ in range(200)]
    assert 2 <= sum(p < 0.05 for p in found) <= 20


def test_no_difference_is_no_evidence() -> None:
    assert sign_flip([0.0, 0.0, 0.0], seed=1) == 1.0
    assert sign_flip([1.0, -1.0], seed=1) == 1.0


def test_better_and_worse_follow_the_direction_of_the_measure() -> None:
    low, high = [0.1 * n for n in range(20)], [0.1 * n + 1 + 0.01 * n for n in range(20)]
    up = compare_measure("accuracy", measure(low), measure(high), seed=1)
    assert (up.outcome, up.difference) == ("better", pytest.approx(1.095))
    assert up.low is not None
    assert up.high is not None
    assert up.low < up.difference < up.high
    down = compare_measure("loss", measure(low, "lower"), measure(high, "lower"), seed=1)
    assert (down.outcome, down.p) == ("worse", up.p)


def test_perplexity_is_compared_in_nats_a_token_with_its_weights() -> None:
    weights = [5.0, 1.0, 2.0, 9.0]
    before = measure([3.0, 2.0, 4.0, 1.0], "lower", logs=True, weights=weights)
    after = measure([2.5, 2.5, 3.0, 0.5], "lower", logs=True, weights=weights)
    moved = compare_measure("perplexity", before, after, seed=1)
    assert moved.of_logs
    differences = [w * (b - a) for w, a, b in zip(weights, before["per_row"], after["per_row"], strict=True)]
    assert moved.p == sign_flip(differences, seed=1)
    assert moved.low is not None
    assert moved.high is not None
    assert moved.low <= math.log(after["value"] / before["value"]) <= moved.high


def test_rows_of_one_group_turn_their_signs_together() -> None:
    """Sixteen pairs of two prompts are evidence of two, and not of sixteen."""
    rows = [0.0] * 16
    groups = ["a"] * 8 + ["b"] * 8
    alone = compare_measure("accuracy", measure(rows), measure([1.0] * 16), seed=1)
    assert alone.p == pytest.approx(2 / 2**16)
    moved = compare_measure("accuracy", measure(rows), {**measure([1.0] * 16), "groups": groups}, seed=1)
    assert (moved.p, moved.outcome) == (1 / 2, "no difference shown")


@pytest.mark.parametrize(
    "after",
    [
        {"value": 2.0, "better": "higher", "n": 3},
        measure([1.0, 2.0]),
        {**measure([1.0, 2.0, 3.0]), "value": 7.0},
        {**measure([1.0, 2.0, math.nan]), "value": 2.0},
    ],
    ids=["no values of rows", "other rows", "rows that do not give the measure", "a row that is not a number"],
)
def test_what_cannot_be_paired_is_not_tested(after: dict) -> None:
    moved = compare_measure("bleu", measure([1.0, 2.0, 3.0]), after, seed=1)
    assert (moved.p, moved.low, moved.outcome) == (None, None, "not tested")


def test_the_lines_group_measures_by_what_may_be_said_of_them() -> None:
    low, high = [0.1 * n for n in range(20)], [0.1 * n + 1 for n in range(20)]
    before = {"loss": measure(low, "lower"), "hits": measure(low), "same": measure(low), "gone": measure(low)}
    after = {"loss": measure(high, "lower"), "hits": measure(high), "same": measure(low), "new": measure(low)}
    moved = [found.describe() for found in compare_measures(before, after, seed=1)]
    assert in_words(moved) == [
        ("better", "hits 0.95 to 1.95 (p < 0.001)"),
        ("worse", "loss 0.95 to 1.95 (p < 0.001)"),
        ("unchanged", "same 0.95 to 0.95"),
    ]


def test_what_lies_within_rounding_is_no_change_however_sure_the_test_is() -> None:
    """Twenty rows that all move by one ten-millionth the same way: p = 2 / 2^20 for a change of nothing."""
    rows = [6.1 + 0.01 * n for n in range(20)]
    nudged = [row - 6e-7 for row in rows]
    before, after = measure(rows, "lower", logs=True), measure(nudged, "lower", logs=True)
    assert sign_flip([b - a for a, b in zip(rows, nudged, strict=True)], seed=1) < 0.003
    moved = compare_measure("perplexity", before, after, seed=1)
    assert (moved.outcome, moved.p) == ("no change", None)
    assert moved.difference == pytest.approx(before["value"] * math.expm1(-6e-7))
    sure = compare_measure("perplexity", before, {**after, "smallest": 1e-8}, seed=1)
    assert (sure.outcome, sure.p) == ("better", pytest.approx(0.001, abs=1e-3))
    large = measure([row - 6e-3 for row in rows], "lower", logs=True)
    assert compare_measure("perplexity", before, large, seed=1).outcome == "better"
    assert compare_measure("perplexity", before, {**large, "smallest": 0.01}, seed=1).outcome == "no change"


def test_the_size_of_a_mean_of_either_sign_is_that_of_its_rows() -> None:
    """Margins of 3 and -3 have a mean of nothing, and the rounding of threes."""
    rows = [3.0, -3.0] * 10
    nudged = [row + 1e-6 for row in rows]
    moved = compare_measure("margin", measure(rows), measure(nudged), seed=1)
    assert moved.outcome == "no change"
    assert compare_measure("margin", measure(rows), measure([row + 1e-3 for row in rows]), seed=1).outcome == "better"


def test_a_probability_is_printed_to_three_digits() -> None:
    assert [p_value(p) for p in (None, 0.0004, 0.0123)] == ["", "p < 0.001", "p = 0.012"]
