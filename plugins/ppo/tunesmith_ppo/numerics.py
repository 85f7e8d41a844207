"""The arithmetic of PPO on tensors: rewards, advantages, losses. No model and no settings here.

Rows are answers and columns their tokens, padded on the right: (B, L), with a mask that is true at tokens. Losses are
flat over the tokens of any number of answers: (N,). "Detail" numbers are those of Huang et al. 2024, arXiv:2403.17031.
"""

from __future__ import annotations

import torch

from tunesmith_transformers.online.numerics import clipped_losses


def token_rewards(scores: torch.Tensor, kl: torch.Tensor, mask: torch.Tensor, kl_coef: float) -> torch.Tensor:
    """Reward of every token: minus the price of its divergence, and at the last token the answer's score too.

    Ziegler et al. 2019 (arXiv:1909.08593), equation 2; Stiennon et al. 2020 (arXiv:2009.01325), section 3.4.

    Args:
        scores: (B,).
        kl: log pi(token) - log reference(token), in nats, (B, L).
        mask: (B, L) bool, at least one token a row.

    Returns:
        (B, L), 0 at padding.
    """
    rewards = torch.where(mask, -kl_coef * kl, torch.zeros_like(kl))
    last = mask.sum(dim=1) - 1  # (B,)
    rewards[torch.arange(len(scores), device=scores.device), last] += scores
    return rewards


def generalized_advantages(
    rewards: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, gamma: float, lam: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Generalized advantage estimation, Schulman et al. 2016 (arXiv:1506.02438), equation 16, and the returns.

    An answer's last token ends its episode: the value after it is 0.

    Args:
        rewards, values: (B, L); values are those before each token.

    Returns:
        advantages and returns (advantages plus values), each (B, L) and 0 at padding.
    """
    rewards = torch.where(mask, rewards, torch.zeros_like(rewards))
    values = torch.where(mask, values, torch.zeros_like(values))
    advantages = torch.zeros_like(rewards)
    running = torch.zeros_like(rewards[:, 0])  # (B,)
    following = torch.zeros_like(running)  # the value after the token, 0 after the last
    for t in reversed(range(rewards.shape[1])):
        delta = rewards[:, t] + gamma * following - values[:, t]
        running = torch.where(mask[:, t], delta + gamma * lam * running, torch.zeros_like(running))
        following = values[:, t]
        advantages[:, t] = running
    return advantages, torch.where(mask, advantages + values, torch.zeros_like(values))


def whiten(values: torch.Tensor, mask: torch.Tensor, shift_mean: bool = True) -> torch.Tensor:
    """Values scaled to variance 1 over the true positions of `mask`, and shifted to mean 0 unless told not to.

    Details 24 and 25. The variance is that of the population, so that a single token is allowed.

    Returns:
        the shape of `values`, 0 where the mask is false.
    """
    counted = values[mask]
    mean, variance = counted.mean(), counted.var(unbiased=False)
    scaled = (values - mean) * torch.rsqrt(variance + 1e-8)
    if not shift_mean:
        scaled = scaled + mean
    return torch.where(mask, scaled, torch.zeros_like(scaled))


def policy_losses(
    logps: torch.Tensor, old_logps: torch.Tensor, advantages: torch.Tensor, cliprange: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The clipped surrogate of Schulman et al. 2017 (arXiv:1707.06347), equation 7, as a loss.

    Args:
        logps, old_logps, advantages: (N,).

    Returns:
        losses (N,), and whether the clipped side decided (N,) bool.
    """
    return clipped_losses(torch.exp(logps - old_logps), advantages, cliprange, cliprange)


def value_losses(
    values: torch.Tensor, old_values: torch.Tensor, returns: torch.Tensor, cliprange: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Half the squared error of the values, with the larger of the plain and the clipped one (detail 20).

    Args:
        values, old_values, returns: (N,).

    Returns:
        losses (N,), and whether the clipped side decided (N,) bool.
    """
    moved = values - old_values
    inside = moved.abs() < cliprange
    bounded = torch.where(inside, values, (old_values + moved.clamp(-cliprange, cliprange)).detach())
    plain, clipped = (values - returns).square(), (bounded - returns).square()
    return 0.5 * torch.where(plain > clipped, plain, clipped), (clipped > plain).detach()


def explained_variance(values: torch.Tensor, returns: torch.Tensor) -> float:
    """1 - Var(returns - values) / Var(returns) over (N,) tokens: 1 is perfect, 0 no better than the mean.

    0 where the returns do not vary.
    """
    variance = float(returns.var(unbiased=False))
    if variance < 1e-12:
        return 0.0
    return 1.0 - float((returns - values).var(unbiased=False)) / variance


def adapted_kl_coef(kl_coef: float, kl: float, target: float, gain: float) -> float:
    """The next coefficient of the divergence: Ziegler et al. 2019, section 2.2.

    The error (kl - target) / target is clipped to [-0.2, 0.2]; the coefficient grows by the factor 1 + gain * error.

    Args:
        kl: mean divergence of an answer, in nats.
    """
    error = min(max(kl / target - 1.0, -0.2), 0.2)
    return kl_coef * (1.0 + gain * error)
