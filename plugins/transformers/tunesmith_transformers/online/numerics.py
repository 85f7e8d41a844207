"""Arithmetic that the methods on a model's own answers share. Tensors are flat over tokens of some answers: (N,)."""

from __future__ import annotations

import torch


def clipped_losses(
    ratio: torch.Tensor, advantages: torch.Tensor, low: float, high: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The clipped surrogate of Schulman et al. 2017 (arXiv:1707.06347), equation 7, as a loss.

    At its bounds the ratio counts as clipped: there the loss is flat. A clip range of 0 therefore moves nothing.

    Args:
        ratio: probability under the policy over that when it answered, (N,).
        advantages: (N,).
        low, high: how far the ratio may fall below 1, and rise above it.

    Returns:
        losses (N,), and whether the clipped side decided (N,) bool.
    """
    inside = (ratio > 1 - low) & (ratio < 1 + high)
    bounded = torch.where(inside, ratio, ratio.detach().clamp(1 - low, 1 + high))
    plain, clipped = -advantages * ratio, -advantages * bounded
    return torch.where(plain > clipped, plain, clipped), (clipped > plain).detach()


def entropy(logits: torch.Tensor) -> torch.Tensor:
    """Entropy of softmax(logits) in nats; logits (N, V), result (N,)."""
    logps = torch.log_softmax(logits, dim=-1)
    return -(logps.exp() * logps).sum(dim=-1)


def approximate_kl(logps: torch.Tensor, old_logps: torch.Tensor) -> torch.Tensor:
    """How far the policy has moved since it answered: half the mean squared log-ratio, in nats a token."""
    return 0.5 * (logps - old_logps).square().mean()
