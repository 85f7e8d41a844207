"""What a classifier is trained on: cross-entropy, weighed and smoothed, and two terms that keep it from overfitting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch.nn import functional

from tunesmith import Labels, RecipeError
from tunesmith.errors import nearest
from tunesmith_classify.encode import Example
from tunesmith_transformers.tokens.encoding import IGNORED


def label_losses(
    logits: torch.Tensor,
    targets: torch.Tensor,
    weights: torch.Tensor | None,
    smoothing: float,
    counts: torch.Tensor | None = None,
) -> torch.Tensor:
    """The summed cross-entropy of logits (N, L) and the places of labels (N,); -100 counts nothing.

    Divided by `target_weight` it is torch's weighted mean, and without weights and smoothing Transformers' own loss.

    Args:
        weights: what each label counts (L,).
        counts: what each row counts (N,).
    """
    losses = functional.cross_entropy(
        logits, targets, weight=weights, label_smoothing=smoothing, ignore_index=IGNORED, reduction="none"
    )
    return (losses if counts is None else losses * counts).sum()


def several_losses(
    logits: torch.Tensor,
    targets: torch.Tensor,
    weights: torch.Tensor | None,
    smoothing: float,
    counts: torch.Tensor | None = None,
) -> torch.Tensor:
    """The binary cross-entropy of logits and targets (B, L), a mean over labels and a sum over rows.

    Args:
        weights: what a given label counts over one that is not given (L,).
        smoothing: targets move so far towards one half.
        counts: what each row counts (B,).
    """
    targets = targets * (1 - smoothing) + smoothing / 2
    losses = functional.binary_cross_entropy_with_logits(logits, targets, pos_weight=weights, reduction="none")
    rows = losses.mean(dim=1)
    return (rows if counts is None else rows * counts).sum()


def target_weight(
    targets: torch.Tensor, weights: torch.Tensor | None, several: bool, counts: torch.Tensor | None = None
) -> float:
    """What the loss of a batch is a mean over: the weights of its targets, or their number.

    Args:
        counts: what each row counts (B,).
    """
    if several:
        return float(len(targets)) if counts is None else float(counts.sum())
    kept = targets != IGNORED  # (B,), or (B, T) for tagged words
    own = torch.ones(targets.shape) if counts is None else counts.cpu().reshape(-1, *[1] * (targets.dim() - 1))
    own = own.expand(targets.shape)[kept.cpu()]
    return float(own.sum() if weights is None else (weights.cpu()[targets[kept].cpu()] * own).sum())


def divergence(logits: torch.Tensor, several: bool) -> torch.Tensor:
    """The symmetric Kullback-Leibler divergence of two passes over the same rows, a mean over rows.

    R-Drop, Liang et al. 2021 (arXiv 2106.14448), equation 2.

    Args:
        logits: (2B, L), the second pass below the first.
    """
    one, two = logits.chunk(2)
    if several:  # each label is a distribution over given and not given
        one, two = (functional.logsigmoid(torch.stack((part, -part), dim=-1)) for part in (one, two))
    else:
        one, two = one.log_softmax(-1), two.log_softmax(-1)

    def apart(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        return functional.kl_div(first, second, log_target=True, reduction="sum")

    return (apart(one, two) + apart(two, one)) / 2 / len(one)


def contrastive_loss(texts: torch.Tensor, targets: torch.Tensor, temperature: float) -> torch.Tensor:
    """The supervised contrastive loss, a mean over the texts that have another of their label in the batch.

    Khosla et al. 2020 (arXiv 2004.11362), equation 2 (the sum outside the logarithm).

    Args:
        texts: what the head reads of each text (N, H).
        targets: (N,) places of labels.
    """
    unit = functional.normalize(texts, dim=-1)
    likeness = unit @ unit.T / temperature  # (N, N)
    itself = torch.eye(len(texts), dtype=torch.bool, device=texts.device)
    logs = likeness.masked_fill(itself, -torch.inf).log_softmax(dim=1).masked_fill(itself, 0.0)
    same = (targets[:, None] == targets[None, :]) & ~itself
    partners = same.sum(dim=1)
    losses = -(logs * same).sum(dim=1) / partners.clamp(min=1)
    return losses.sum() / (partners > 0).sum().clamp(min=1)


def class_weights(
    wanted: str | Mapping[str, float], labels: Labels, examples: Sequence[Example]
) -> torch.Tensor | None:
    """What each label counts (L,), or None where all count alike.

    `balanced` is rows / (labels x rows of the label), as scikit-learn has it. Where a text may have several, each label
    is balanced by itself: the rows without it over those with it, which is the ratio of scikit-learn's two weights.
    A label that is on every row or on none has one side only, and nothing to balance: it counts 1.

    Raises:
        RecipeError: a weight is given to a label that there is not.
    """
    if wanted == "none":
        return None
    if not isinstance(wanted, str):
        for name in wanted:
            if name not in labels.index:
                near = nearest(name, labels.names)
                raise RecipeError(
                    f"class_weights names the label {name!r}, which there is not",
                    fix=f"Did you mean {near!r}?" if near else f"There are: {', '.join(labels.names[:10])}.",
                )
        return torch.tensor([float(wanted.get(name, 1.0)) for name in labels.names])
    places = torch.tensor([place for item in examples for place in item.target if place != IGNORED])
    counts = torch.bincount(places, minlength=len(labels)).float()
    if labels.several:
        without = len(examples) - counts
        return torch.where((counts > 0) & (without > 0), without / counts.clamp(min=1), torch.ones(()))
    return counts.sum() / (len(labels) * counts.clamp(min=1))
