"""The bootstrap: known means, intervals of the right width, the same numbers for the same seed."""

from __future__ import annotations

import math
import random

import pytest

from tunesmith import DataError
from tunesmith.stats import bootstrap_grouped, bootstrap_mean, bootstrap_ratio, wilson


def test_the_mean_lies_in_its_interval() -> None:
    value, low, high = bootstrap_mean([0.0, 1.0, 1.0, 0.0, 1.0], seed=1)
    assert value == pytest.approx(0.6)
    assert 0 <= low <= value <= high <= 1


def test_equal_values_leave_no_doubt() -> None:
    assert bootstrap_mean([2.5] * 10, seed=1) == (2.5, 2.5, 2.5)
    assert bootstrap_mean([7.0], seed=1) == (7.0, 7.0, 7.0)


def test_the_width_is_that_of_the_normal_approximation() -> None:
    draw = random.Random(0)
    values = [draw.gauss(10, 2) for _ in range(400)]
    _, low, high = bootstrap_mean(values, seed=3)
    assert high - low == pytest.approx(2 * 1.96 * 2 / math.sqrt(400), rel=0.2)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    draw = random.Random(1)
    covered = 0
    for trial in range(100):
        _, low, high = bootstrap_mean([draw.gauss(0, 1) for _ in range(40)], seed=trial, resamples=200)
        covered += low <= 0 <= high
    assert covered >= 85


def test_the_seed_decides() -> None:
    draw = random.Random(5)
    values = [draw.random() for _ in range(50)]
    assert bootstrap_mean(values, seed=1) == bootstrap_mean(values, seed=1)
    assert bootstrap_mean(values, seed=1)[1:] != bootstrap_mean(values, seed=2)[1:]


def test_a_ratio_weighs_rows_by_their_denominator() -> None:
    value, low, high = bootstrap_ratio([10.0, 1.0], [1.0, 9.0], seed=1)
    assert value == pytest.approx(1.1)
    assert low <= value <= high


def test_a_transform_applies_to_value_and_ends() -> None:
    plain = bootstrap_ratio([2.0, 5.0, 9.0], [1.0, 2.0, 3.0], seed=4)
    assert bootstrap_ratio([2.0, 5.0, 9.0], [1.0, 2.0, 3.0], seed=4, transform=math.exp) == pytest.approx(
        tuple(map(math.exp, plain))
    )
    value, low, high = bootstrap_ratio([2.0, 5.0, 9.0], [1.0, 2.0, 3.0], seed=4, transform=lambda x: -x)
    assert low <= value <= high, "a falling transform changes the ends' places"


@pytest.mark.parametrize(("above", "below"), [([], []), ([1.0], [0.0])])
def test_nothing_measured_is_an_error(above: list[float], below: list[float]) -> None:
    with pytest.raises(DataError, match="nothing could be measured"):
        bootstrap_ratio(above, below, seed=1)


def test_rows_that_weigh_nothing_may_be_drawn_alone() -> None:
    value, low, high = bootstrap_ratio([0.0, 0.0, 3.0], [0.0, 0.0, 1.0], seed=1)
    assert (value, low, high) == (3.0, 3.0, 3.0)


@pytest.mark.parametrize(
    ("share", "n", "low", "high"),
    [(0.8, 10, 0.4902, 0.9433), (0.0, 10, 0.0, 0.2775), (1.0, 5, 0.5655, 1.0), (0.5, 100, 0.4038, 0.5962)],
)
def test_a_share_of_few_rows_has_the_score_interval(share: float, n: int, low: float, high: float) -> None:
    assert wilson(share, n) == pytest.approx((low, high), abs=1e-4)


def test_values_of_one_group_are_drawn_together() -> None:
    draw = random.Random(7)
    truth = [float(draw.random() < 0.6) for _ in range(60)]
    values, groups = [value for value in truth for _ in range(6)], [number for number in range(60) for _ in range(6)]
    alone, grouped = bootstrap_mean(values, seed=1), bootstrap_grouped(values, groups, seed=1)
    assert grouped[0] == pytest.approx(alone[0])
    assert (grouped[2] - grouped[1]) / (alone[2] - alone[1]) == pytest.approx(math.sqrt(6), rel=0.15)
    assert bootstrap_grouped(truth, range(60), seed=1) == bootstrap_mean(truth, seed=1)
