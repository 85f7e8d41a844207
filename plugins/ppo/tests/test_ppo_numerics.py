"""The arithmetic of PPO against loops that are written from the papers' equations."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from tunesmith_ppo import numerics
from tunesmith_transformers.online.numerics import approximate_kl, entropy, token_logps

LENGTHS = (5, 1, 3, 4)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(3)
    mask = torch.arange(max(LENGTHS)) < torch.tensor(LENGTHS)[:, None]

    def drawn():
        # what stands at padding must not matter
        return torch.randn(mask.shape, generator=generator, dtype=torch.float64)

    return mask, drawn


def rows(table):
    return [table[row, :length].numpy() for row, length in enumerate(LENGTHS)]


def test_rewards_are_the_price_of_divergence_and_the_score_at_the_end(batch):
    mask, drawn = batch
    kl, scores = drawn(), torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)
    found = numerics.token_rewards(scores, kl, mask, 0.3)
    for row, (own, length) in enumerate(zip(rows(kl), LENGTHS, strict=True)):
        expected = [-0.3 * value for value in own]
        expected[-1] += float(scores[row])
        np.testing.assert_allclose(found[row, :length].numpy(), expected, rtol=0, atol=1e-12)
        assert not found[row, length:].any()


@pytest.mark.parametrize(("gamma", "lam"), [(1.0, 0.95), (0.9, 0.7), (1.0, 1.0), (0.9, 0.0)])
def test_advantages_are_the_discounted_sum_of_the_td_errors(batch, gamma, lam):
    mask, drawn = batch
    rewards, values = drawn(), drawn()
    advantages, returns = numerics.generalized_advantages(rewards, values, mask, gamma, lam)
    for row, length in enumerate(LENGTHS):
        r, v = rewards[row].numpy(), [*values[row, :length].numpy(), 0.0]
        errors = [r[t] + gamma * v[t + 1] - v[t] for t in range(length)]
        expected = [sum((gamma * lam) ** (s - t) * errors[s] for s in range(t, length)) for t in range(length)]
        np.testing.assert_allclose(advantages[row, :length].numpy(), expected, rtol=0, atol=1e-6)
        np.testing.assert_allclose(returns[row, :length].numpy(), np.add(expected, v[:-1]), rtol=0, atol=1e-6)
        assert not advantages[row, length:].any()
        assert not returns[row, length:].any()


def test_with_lambda_one_the_returns_are_the_sums_of_the_rewards_to_come(batch):
    mask, drawn = batch
    rewards = drawn()
    _, returns = numerics.generalized_advantages(rewards, drawn(), mask, 1.0, 1.0)
    for row, own in enumerate(rows(rewards)):
        np.testing.assert_allclose(returns[row, : len(own)].numpy(), np.cumsum(own[::-1])[::-1], rtol=0, atol=1e-6)


def test_whitening_gives_mean_0_and_variance_1_or_keeps_the_mean(batch):
    mask, drawn = batch
    values = drawn()
    flat = np.concatenate(rows(values))
    scaled = (flat - flat.mean()) / math.sqrt(flat.var() + 1e-8)
    np.testing.assert_allclose(numerics.whiten(values, mask)[mask].numpy(), scaled, rtol=0, atol=1e-6)
    kept = numerics.whiten(values, mask, shift_mean=False)
    np.testing.assert_allclose(kept[mask].numpy(), scaled + flat.mean(), rtol=0, atol=1e-6)
    assert not kept[~mask].any()
    assert numerics.whiten(torch.ones(1, 1), torch.ones(1, 1, dtype=torch.bool)).item() == 0


def test_the_policy_loss_is_the_clipped_surrogate(batch):
    _, drawn = batch
    new, old, advantages = (drawn().flatten() for _ in range(3))
    losses, clipped = numerics.policy_losses(new, old, advantages, 0.2)
    for n, o, a, loss, was in zip(new, old, advantages, losses, clipped, strict=True):
        ratio = math.exp(n - o)
        plain, bounded = ratio * float(a), min(max(ratio, 0.8), 1.2) * float(a)
        assert float(loss) == pytest.approx(-min(plain, bounded), abs=1e-6)
        assert bool(was) == (bounded < plain)
    assert 0 < clipped.sum() < len(clipped)


def test_the_gradient_of_the_policy_loss_is_that_of_its_equation():
    old = torch.zeros(6, dtype=torch.float64)
    new = torch.log(torch.tensor([1.0, 1.1, 1.5, 0.9, 0.5, 1.5], dtype=torch.float64)).requires_grad_()
    advantages = torch.tensor([2.0, -1.0, 1.0, 1.0, -1.0, -1.0], dtype=torch.float64)
    numerics.policy_losses(new, old, advantages, 0.2)[0].sum().backward()
    # -advantage x ratio where the plain side decides, 0 where the clipped one does
    expected = [-2.0, 1.1, 0.0, -0.9, 0.0, 1.5]
    np.testing.assert_allclose(new.grad.numpy(), expected, rtol=0, atol=1e-6)


def test_the_value_loss_is_half_the_larger_of_two_squared_errors(batch):
    _, drawn = batch
    new, old, returns = (drawn().flatten() for _ in range(3))
    losses, clipped = numerics.value_losses(new, old, returns, 0.2)
    for v, o, target, loss, was in zip(new, old, returns, losses, clipped, strict=True):
        bounded = min(max(float(v), float(o) - 0.2), float(o) + 0.2)
        plain, other = (float(v) - float(target)) ** 2, (bounded - float(target)) ** 2
        assert float(loss) == pytest.approx(0.5 * max(plain, other), abs=1e-6)
        assert bool(was) == (other > plain)


def test_a_clip_range_of_zero_has_no_gradient_where_nothing_has_moved():
    advantages = torch.tensor([1.0, -1.0, 0.0])
    old = torch.tensor([-1.0, -2.0, -3.0])
    for losses in (
        lambda new: numerics.policy_losses(new, old, advantages, 0.0)[0],
        lambda new: numerics.value_losses(new, old, advantages, 0.0)[0],
    ):
        new = old.clone().requires_grad_()
        made = losses(new)
        assert not made.requires_grad or not torch.autograd.grad(made.sum(), new)[0].any()


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_log_probabilities_of_tokens_and_their_gradient_are_those_of_cross_entropy(temperature):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(150, 11, generator=generator, dtype=torch.float64)  # more than are computed at once
    tokens, weights = torch.arange(150) % 11, torch.randn(150, generator=generator, dtype=torch.float64)
    found = []
    for logps in (
        lambda raw: token_logps(raw, tokens, temperature),
        lambda raw: -torch.nn.functional.cross_entropy(raw / temperature, tokens, reduction="none"),
    ):
        raw = logits.clone().requires_grad_()
        values = logps(raw)
        found.append((values.detach(), *torch.autograd.grad(values @ weights, raw)))
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-12)


def test_the_entropy_of_more_tokens_than_are_computed_at_once():
    logits = torch.randn(150, 11, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    theirs = torch.distributions.Categorical(logits=logits / 0.7).entropy()
    torch.testing.assert_close(entropy(logits, 0.7), theirs, rtol=0, atol=1e-12)


def test_entropy_divergence_and_explained_variance():
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.0, math.log(3.0), -1e9, -1e9]])
    spread = 0.25 * math.log(4) + 0.75 * math.log(4 / 3)
    assert entropy(logits).tolist() == pytest.approx([math.log(4), spread], abs=1e-6)
    assert approximate_kl(torch.tensor([0.0, 1.0]), torch.tensor([0.5, 1.0])).item() == pytest.approx(0.0625)
    returns = torch.tensor([1.0, 2.0, 3.0])
    assert numerics.explained_variance(returns, returns) == 1.0
    assert numerics.explained_variance(torch.zeros(3), returns) == pytest.approx(0.0, abs=1e-6)
    assert numerics.explained_variance(returns, torch.ones(3)) == 0.0


def test_the_adaptive_coefficient_goes_where_the_divergence_is_too_large_or_too_small():
    assert numerics.adapted_kl_coef(0.2, 6.0, 6.0, 0.1) == pytest.approx(0.2)
    assert numerics.adapted_kl_coef(0.2, 6.6, 6.0, 0.1) == pytest.approx(0.2 * 1.01)
    assert numerics.adapted_kl_coef(0.2, 60.0, 6.0, 0.1) == pytest.approx(0.2 * 1.02), "the error is clipped at 0.2"
    assert numerics.adapted_kl_coef(0.2, 0.0, 6.0, 0.1) == pytest.approx(0.2 * 0.98)
