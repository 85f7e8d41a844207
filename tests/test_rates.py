"""Range tests on numbers alone: the rates of the steps, when a test ends, and what its losses say."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from tunesmith.rates.curve import BETA, TIMES, Divergence, half_window, read, rising, smoothed

LOW, HIGH, N = 1e-7, 1.0, 71  # ten steps to each power of ten


def places(steps: int = N) -> list[float]:
    """The powers of ten of the rates."""
    return [math.log10(rate) for rate in rising(LOW, HIGH, steps)]


def losses(course: Callable[[float], float], noise: float = 0.0, seed: int = 0) -> list[float]:
    draw = random.Random(seed)
    return [course(place) + draw.gauss(0, noise) for place in places()]


def valley(place: float) -> float:
    """3 up to 1e-5, then down to 1 at 1e-2 along a cubic that is steepest halfway, then up by a half a power of ten."""
    if place <= -2:
        share = min(1.0, max(0.0, (place + 5) / 3))  # from 1e-5 to 1e-2
        return 3 - 2 * share**2 * (3 - 2 * share)
    return 1 + 0.5 * (place + 2)


# --- the rates --------------------------------------------------------------------------------
def test_the_rates_rise_by_one_factor_from_end_to_end() -> None:
    rates = rising(LOW, HIGH, N)
    assert rates[0] == LOW
    assert rates[-1] == pytest.approx(HIGH, rel=1e-12)
    for step, rate in enumerate(rates):
        assert rate == pytest.approx(10 ** (-7 + step / 10), rel=1e-12)


# --- the end of a test ------------------------------------------------------------------------
def test_the_mean_of_the_losses_is_corrected_for_its_start() -> None:
    watch = Divergence()
    assert not watch.after(2.0)
    # m1 = 2, so a loss x makes m2 = (0.09 * 2 + 0.1 * x) / (1 - 0.81), which passes 8 at 13.4
    assert pytest.approx(TIMES * 2) == (0.09 * 2 + 0.1 * 13.4) / (1 - BETA**2)
    assert not watch.after(13.39)
    again = Divergence()
    again.after(2.0)
    assert again.after(13.41)


def test_a_loss_that_is_not_finite_ends_it_at_once() -> None:
    for loss in (math.nan, math.inf):
        assert Divergence().after(loss)


def test_four_times_nothing_is_no_divergence() -> None:
    """A classifier that has learnt its rows has a loss near 0, and one wrong row then is a hundred times it."""
    watch = Divergence()
    course = [0.7 * 0.7**step for step in range(40)]
    assert not any(watch.after(loss) for loss in [*course, 0.1, 0.2, 0.1])
    assert any(watch.after(9.0) for _ in range(5))


def test_negative_losses_end_no_test() -> None:
    watch = Divergence()
    assert not any(watch.after(loss) for loss in [-1.0, -2.0, 5.0, 50.0])


# --- the smoothed loss ------------------------------------------------------------------------
def test_a_straight_line_is_smoothed_to_itself_up_to_its_ends() -> None:
    line = losses(lambda place: 5 - 0.5 * place)
    for found, loss in zip(smoothed(rising(LOW, HIGH, N), line, half=8), line, strict=True):
        assert found.loss == pytest.approx(loss)
        assert found.slope == pytest.approx(-0.5)


def test_slopes_are_those_of_least_squares() -> None:
    numpy = pytest.importorskip("numpy")
    noisy = losses(valley, noise=0.3)
    half = half_window(N)
    assert half == N // 8
    for line in smoothed(rising(LOW, HIGH, N), noisy, half):
        near = slice(max(0, line.middle - half), line.middle + half + 1)
        slope, base = numpy.polyfit(places()[near], noisy[near], 1)
        assert line.slope == pytest.approx(slope)
        assert line.loss == pytest.approx(base + slope * places()[line.middle])


# --- the suggestion ---------------------------------------------------------------------------
def test_the_rate_is_where_a_smooth_curve_falls_fastest() -> None:
    """The cubic from 1e-5 to 1e-2 is steepest halfway, at 10**-3.5 = 3.2e-4.

    A window of 8 steps on either side of x reaches from x - 0.8 to x + 0.8. One step on it loses course(x - 0.8) and
    wins course(x + 0.9): the mean falls as long as the former is more, which is up to x = -2.1, and so is lowest at -2.
    """
    assert valley(-2.1 - 0.8) > valley(-2.1 + 0.9)
    assert valley(-2.0 - 0.8) < valley(-2.0 + 0.9)
    found = read(rising(LOW, HIGH, N), losses(valley), N, diverged=False)
    assert found.steepest == pytest.approx(10**-3.5)
    assert found.lowest == pytest.approx(10**-2.0)
    assert (found.rate, found.high) == (3.2e-4, 1e-3)
    assert found.lowest_loss == pytest.approx(sum(valley(-2 + step / 10) for step in range(-8, 9)) / 17)
    assert (found.reason, found.rose) == ("", None)


def test_a_tenth_of_the_rate_at_the_lowest_loss_is_taken_where_it_is_less() -> None:
    """A fall of one power of ten from 1e-3 on: steepest at 10**-2.5, and the loss lowest before 10**-1.5."""

    def cliff(place: float) -> float:
        return 3 - 2 * min(1.0, max(0.0, place + 3)) if place < -1.5 else 9.0

    found = read(rising(LOW, HIGH, N), losses(cliff), N, diverged=False)
    assert found.steepest is not None
    assert found.lowest is not None
    assert found.rate == float(f"{found.lowest / 10:.1e}")
    assert found.high == float(f"{found.steepest:.1e}")
    assert found.rate < found.high
    assert found.rose is not None
    assert 10**-2.5 < found.rose < 1e-1


def test_a_divergence_does_not_reach_into_the_steps_before_it() -> None:
    """A wall at 10**-1.95 may be as high as one likes: it is seen where it is, within two steps."""

    def wall(height: float) -> list[float]:
        return losses(lambda place: valley(min(place, -2.0)) if place < -1.95 else height)

    low, high = (read(rising(LOW, HIGH, N), wall(height), N, diverged=True) for height in (5.0, 1e9))
    assert low == high
    assert low.rose is not None
    assert abs(math.log10(low.rose) + 1.95) < 0.2


def test_noise_between_batches_hides_neither_a_fall_nor_makes_one() -> None:
    near, invented = 0, 0
    for seed in range(100):
        found = read(rising(LOW, HIGH, N), losses(valley, noise=0.5, seed=seed), N, diverged=False)
        near += found.steepest is not None and abs(math.log10(found.steepest) + 3.5) <= 1
        flat = read(rising(LOW, HIGH, N), losses(lambda place: 3.0, noise=0.5, seed=seed), N, diverged=False)
        invented += flat.rate is not None
    assert near >= 95
    assert invented <= 5


@pytest.mark.parametrize(
    ("course", "steps", "diverged", "said"),
    [
        (lambda place: 3.0, N, False, "never rises"),
        (lambda place: 3.0 + max(0.0, place + 2) ** 2, N, False, "before it rises"),
        (lambda place: 3.0 - max(0.0, place + 3), N, False, "still falls at the end of the range"),
        (lambda place: math.exp(-(place + 7)) + max(0.0, place + 2), N, False, "begin at a lower rate"),
        (valley, 17, True, "diverged after 17 steps"),
    ],
)
def test_no_rate_is_told_where_none_can_be(
    course: Callable[[float], float], steps: int, diverged: bool, said: str
) -> None:
    rates = rising(LOW, HIGH, N)[:steps]
    found = read(rates, losses(course)[:steps], N, diverged=diverged)
    assert found.rate is None
    assert found.high is None
    assert said in found.reason


def test_a_loss_that_falls_until_it_is_not_finite_has_a_rate() -> None:
    """The end of the steps is then the end of what works, and no reason to go on to higher rates."""
    steps = 51  # to 1e-2, where the valley is lowest
    found = read(rising(LOW, HIGH, N)[:steps], losses(valley)[:steps], N, diverged=True)
    assert found.rate == float(f"{10 ** ((steps - 1 - half_window(N)) / 10 - 7) / 10:.1e}")
    assert found.high == 3.2e-4
