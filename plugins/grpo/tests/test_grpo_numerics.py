"""The arithmetic of GRPO and RLOO against loops that are written from the papers' equations."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
import torch

from tunesmith_grpo import numerics

SIZE = 4


@pytest.fixture
def rewards():
    return torch.randn(5 * SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def groups(values):
    flat = values.tolist()
    return [flat[start : start + SIZE] for start in range(0, len(flat), SIZE)]


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_the_advantages_of_a_group_sum_to_zero_and_are_the_paper_s(rewards, scale):
    found = numerics.group_advantages(rewards, SIZE, scale)
    for own, advantages in zip(groups(rewards), groups(found), strict=True):
        assert sum(advantages) == pytest.approx(0.0, abs=1e-9)
        spread = {"group": statistics.stdev(own), "batch": statistics.stdev(rewards.tolist()), "none": None}[scale]
        expected = [(value - statistics.mean(own)) / (1 if spread is None else spread + 1e-4) for value in own]
        np.testing.assert_allclose(advantages, expected, rtol=0, atol=1e-9)


def test_each_answer_is_compared_with_the_mean_of_the_others(rewards):
    found = numerics.leave_one_out(rewards, SIZE)
    for own, advantages in zip(groups(rewards), groups(found), strict=True):
        for place, value in enumerate(own):
            others = [other for index, other in enumerate(own) if index != place]
            assert advantages[place] == pytest.approx(value - sum(others) / (SIZE - 1), abs=1e-9)
        assert sum(advantages) == pytest.approx(0.0, abs=1e-9)


def test_leaving_one_out_is_centring_times_n_over_n_minus_one(rewards):
    centred = numerics.group_advantages(rewards, SIZE, "none")
    torch.testing.assert_close(numerics.leave_one_out(rewards, SIZE), centred * SIZE / (SIZE - 1))


def test_equal_rewards_give_no_advantage_and_are_noticed():
    rewards = torch.tensor([1.0, 1.0, 1.0, 0.0])
    assert numerics.without_signal(rewards, 2).tolist() == [True, False]
    assert numerics.group_advantages(rewards, 2)[:2].tolist() == [0.0, 0.0]
    assert numerics.leave_one_out(rewards, 2).tolist() == [0.0, 0.0, 1.0, -1.0]


def test_the_divergence_is_never_negative_and_zero_where_nothing_has_moved():
    logps = torch.tensor([-1.0, -2.0, -0.5])
    reference = torch.tensor([-1.0, -1.0, -2.0])
    expected = [math.exp(r - p) - (r - p) - 1 for p, r in zip(logps.tolist(), reference.tolist(), strict=True)]
    found = numerics.reference_kl(logps, reference).tolist()
    assert found == pytest.approx(expected, abs=1e-6)
    assert found[0] == 0.0
    assert min(found) >= 0.0


LENGTHS = (3, 1, 2)
ROWS = torch.tensor([0, 0, 0, 1, 2, 2])


def test_the_ways_to_sum_over_tokens():
    losses = torch.tensor([1.0, 2.0, 6.0, 4.0, 10.0, 20.0])
    kept = torch.tensor([True, True, False])
    found = {
        how: numerics.over_tokens(losses, ROWS, kept, how, answers=3, tokens=4, longest=5).item()
        for how in ("grpo", "dapo", "dr_grpo")
    }
    expected = {"grpo": ((1 + 2 + 6) / 3 + 4) / 3, "dapo": (1 + 2 + 6 + 4) / 4, "dr_grpo": (1 + 2 + 6 + 4) / (3 * 5)}
    assert found == pytest.approx(expected)


def test_the_ratio_of_a_sequence_is_the_geometric_mean_of_its_tokens():
    generator = torch.Generator().manual_seed(2)
    new, old = torch.randn(6, generator=generator), torch.randn(6, generator=generator)
    tokens = [math.exp(float(a - b)) for a, b in zip(new, old, strict=True)]
    assert numerics.ratios(new, old, ROWS, 3, sequence=False).tolist() == pytest.approx(tokens, rel=1e-5)
    found = numerics.ratios(new, old, ROWS, 3, sequence=True)
    place = 0
    for length in LENGTHS:
        mean = math.prod(tokens[place : place + length]) ** (1 / length)
        assert found[place : place + length].tolist() == pytest.approx([mean] * length, rel=1e-5)
        place += length
