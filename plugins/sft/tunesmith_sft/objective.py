"""What a supervised token costs: its negative log-likelihood, smoothed or weighed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from tunesmith_sft import SftSettings
from tunesmith_transformers.training.losses import nll


def loss_of(settings: SftSettings) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """The function from logits (N, V) and tokens (N,) to losses (N,) that the settings ask for."""
    if settings.loss == "dft":
        return dft
    if settings.label_smoothing:
        return lambda logits, targets: smoothed(logits, targets, settings.label_smoothing)
    return nll


def dft(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood times the token's own probability, which has no gradient.

    Dynamic fine-tuning, Wu et al. 2025 (arXiv 2508.05629), equation 9.
    """
    losses = nll(logits, targets)
    return losses * (-losses.detach()).exp()


def smoothed(logits: torch.Tensor, targets: torch.Tensor, share: float) -> torch.Tensor:
    """Cross-entropy with a target of which `share` lies evenly over the vocabulary, Szegedy et al. 2016."""
    return nn.functional.cross_entropy(logits, targets, reduction="none", label_smoothing=share)
