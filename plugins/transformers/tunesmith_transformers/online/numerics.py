"""Arithmetic that the methods on a model's own answers share. Tensors are flat over tokens of some answers: (N,)."""

from __future__ import annotations

from typing import Any

import torch

ROWS = 64  # positions whose distribution over the vocabulary is computed at once


def token_logps(logits: torch.Tensor, tokens: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """Log-probability of each token under softmax(logits / temperature), in nats.

    The distribution over the vocabulary is made for `ROWS` positions at a time, and again for the gradient: what is
    kept is the logits, and no copy of them.

    Args:
        logits: (N, V); their gradient is supported, that of the gradient is not.
        tokens: (N,).

    Returns:
        (N,).
    """
    found: torch.Tensor = _TokenLogps.apply(logits, tokens, temperature)
    return found


class _TokenLogps(torch.autograd.Function):
    """y = z[token] - log sum exp z with z = logits / temperature; dy/dlogits = (onehot - softmax z) / temperature."""

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, tokens: torch.Tensor, temperature: float) -> torch.Tensor:
        norms = torch.cat([(part / temperature).logsumexp(dim=-1) for part in logits.split(ROWS)])  # (N,)
        ctx.save_for_backward(logits, tokens, norms)
        ctx.temperature = temperature
        return logits.gather(1, tokens[:, None])[:, 0] / temperature - norms

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, outer: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        logits, tokens, norms = ctx.saved_tensors
        gradient = torch.empty_like(logits)
        for start in range(0, len(logits), ROWS):
            part = slice(start, start + ROWS)
            scaled = (logits[part] / ctx.temperature).sub_(norms[part, None])
            torch.exp(scaled, out=gradient[part]).mul_(-outer[part, None])
        gradient.scatter_add_(1, tokens[:, None], outer[:, None].to(gradient.dtype))
        return gradient.div_(ctx.temperature), None, None


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


def entropy(logits: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """Entropy of softmax(logits / temperature) in nats; logits (N, V), result (N,), without gradients."""
    found = []
    for part in logits.detach().split(ROWS):
        logps = torch.log_softmax(part / temperature, dim=-1)
        found.append(-(logps.exp() * logps).sum(dim=-1))
    return torch.cat(found)


def approximate_kl(logps: torch.Tensor, old_logps: torch.Tensor) -> torch.Tensor:
    """How far the policy has moved since it answered: half the mean squared log-ratio, in nats a token."""
    return 0.5 * (logps - old_logps).square().mean()
