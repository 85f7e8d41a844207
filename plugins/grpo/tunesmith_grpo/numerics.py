"""The arithmetic of GRPO and RLOO on tensors. No model and no settings here.

Answers are in order, those to one prompt side by side: (B,) with groups of equal size. Tokens are flat over some
answers: (N,), with the answer (N,) that each is of.
"""

from __future__ import annotations

import torch

from tunesmith_transformers.training.losses import summed

TINY = 1e-4  # added to a standard deviation before dividing by it, as TRL does


def group_advantages(rewards: torch.Tensor, size: int, scale: str = "group") -> torch.Tensor:
    """Rewards less the mean of their group: Shao et al. 2024 (arXiv:2402.03300), section 4.1.2.

    Args:
        rewards: (B,).
        size: answers a group.
        scale: `group` divides by the group's standard deviation, as the paper does; `batch` by that of all (Hu et al.
            2025, arXiv:2501.03262); `none` by nothing (Liu et al. 2025, arXiv:2503.20783).

    Returns:
        (B,); they sum to zero in every group.
    """
    grouped = rewards.view(-1, size)  # (B / size, size)
    centred = grouped - grouped.mean(dim=1, keepdim=True)
    if scale == "group":
        centred = centred / (grouped.std(dim=1, keepdim=True) + TINY)
    elif scale == "batch":
        centred = centred / (rewards.std() + TINY)
    return centred.flatten()


def leave_one_out(rewards: torch.Tensor, size: int) -> torch.Tensor:
    """Each reward less the mean of the others in its group: Ahmadian et al. 2024, arXiv:2402.14740.

    Args:
        rewards: (B,).
        size: answers a group, two at least.

    Returns:
        (B,).
    """
    grouped = rewards.view(-1, size)
    others = (grouped.sum(dim=1, keepdim=True) - grouped) / (size - 1)
    return (grouped - others).flatten()


def without_signal(rewards: torch.Tensor, size: int) -> torch.Tensor:
    """Whether the rewards of a group are all equal, (B / size,) bool."""
    grouped = rewards.view(-1, size)
    return (grouped.max(dim=1).values - grouped.min(dim=1).values).abs() < 1e-8


def reference_kl(logps: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """The divergence from the reference at each token: Shao et al. 2024, equation 4, never below 0; (N,).

    Where the policy is still what it was when it answered, its gradient is that of the divergence the other way round.
    Times the ratio it is the right one (DeepSeek-AI 2025, arXiv:2512.02556).
    """
    ratio = reference - logps
    return torch.exp(ratio) - ratio - 1


def ratios(
    logps: torch.Tensor, old_logps: torch.Tensor, rows: torch.Tensor, answers: int, sequence: bool
) -> torch.Tensor:
    """Probability of each token under the policy over that when it answered, (N,).

    Args:
        logps, old_logps: of the tokens, (N,).
        rows: the answer of each token, (N,).
        answers: how many there are.
        sequence: give each token the geometric mean of its answer's instead: Zheng et al. 2025, arXiv:2507.18071.
    """
    log_ratio = logps - old_logps
    if sequence:
        lengths = torch.bincount(rows, minlength=answers).clamp(min=1)  # (b,)
        log_ratio = (summed(log_ratio, rows, answers) / lengths)[rows]
    return torch.exp(log_ratio)


def cispo_losses(
    ratio: torch.Tensor, logps: torch.Tensor, advantages: torch.Tensor, bound: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The bounded ratio weighs the log-probability: Chen et al. 2025, arXiv:2506.13585.

    Args:
        ratio, logps, advantages: of the tokens, (N,).

    Returns:
        losses (N,), and whether the bound decided (N,) bool.
    """
    return -ratio.clamp(max=bound).detach() * advantages * logps, (ratio > bound) & (advantages > 0)


def over_tokens(
    losses: torch.Tensor, rows: torch.Tensor, kept: torch.Tensor, how: str, answers: int, tokens: int, longest: int
) -> torch.Tensor:
    """The share of some answers in the loss of one optimizer step.

    Args:
        losses: of their tokens, (N,).
        rows: the answer of each token, (N,).
        kept: whether an answer counts, (b,) bool.
        how: `grpo`: mean by answer, then over answers (Shao et al. 2024, equation 3). `dapo`, `cispo`: mean over the
            tokens (Yu et al. 2025, arXiv:2503.14476, equation 8). `dr_grpo`: sum over the longest possible (Liu et al.
            2025).
        answers, tokens: of the whole optimizer step; tokens of kept answers only.
        longest: answer, in tokens.
    """
    sums = summed(losses, rows, len(kept)) * kept  # (b,)
    if how == "grpo":
        lengths = torch.bincount(rows, minlength=len(kept)).clamp(min=1)  # (b,)
        return (sums / lengths).sum() / answers
    if how == "dr_grpo":
        return sums.sum() / (answers * longest)
    return sums.sum() / max(tokens, 1)
