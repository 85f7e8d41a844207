"""The losses on pairs of answers, as formulas of their log-probabilities; no model in sight.

Throughout, w is the chosen (winning) answer and r the rejected one. Each loss gives one value a pair (B,). Names and
formulas follow TRL, so that a recipe means the same in both.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.functional import logsigmoid


@dataclass(frozen=True)
class Answers:
    """The log-probabilities of one side of a batch of pairs.

    Args:
        logps: log-probability of each answer given its prompt, summed over its tokens (B,), in nats.
        tokens: number of those tokens (B,).
        reference: the same sum under the reference (B,), or None for methods without one.
    """

    logps: torch.Tensor
    tokens: torch.Tensor
    reference: torch.Tensor | None = None

    @property
    def ratio(self) -> torch.Tensor:
        """log(policy / reference) of each answer (B,)."""
        assert self.reference is not None
        return self.logps - self.reference

    @property
    def mean_ratio(self) -> torch.Tensor:
        """The same by token (B,)."""
        return self.ratio / self.tokens

    @property
    def mean_logps(self) -> torch.Tensor:
        """Mean log-probability of a token (B,)."""
        return self.logps / self.tokens


PairLoss = Callable[[Answers, Answers], torch.Tensor]


def dpo(name: str, beta: float, smoothing: float = 0.0, tau: float = 0.05) -> PairLoss:
    """A loss with a reference, by TRL's name; `sft` is no loss on pairs and is not among them."""
    # by name: what the loss is of, and its formula in w and r
    return {
        "sigmoid": lambda w, r: _smoothed(beta * (w.ratio - r.ratio), 0.0),
        "sigmoid_norm": lambda w, r: _smoothed(beta * (w.mean_ratio - r.mean_ratio), 0.0),
        "hinge": lambda w, r: torch.relu(1 - beta * (w.ratio - r.ratio)),
        # Azar et al. 2023, equation 17, on means by token as its authors confirmed to TRL's
        "ipo": lambda w, r: (w.mean_ratio - r.mean_ratio - 1 / (2 * beta)) ** 2,
        "exo_pair": lambda w, r: exo_pair(beta * (w.ratio - r.ratio), smoothing),
        "nca_pair": lambda w, r: nca_pair(beta * w.ratio, beta * r.ratio),
        "robust": lambda w, r: robust(beta * (w.ratio - r.ratio), smoothing),
        "bco_pair": lambda w, r: -logsigmoid(beta * w.ratio) - logsigmoid(-beta * r.ratio),
        # Wu et al. 2024, 2405.00675, equation 4.7 with P = 1 for the winner and 0 for the loser
        "sppo_hard": lambda w, r: (w.ratio - 0.5 / beta) ** 2 + (r.ratio + 0.5 / beta) ** 2,
        "aot": lambda w, r: aot(w, r, beta, smoothing),
        "aot_unpaired": lambda w, r: _smoothed(beta * (w.ratio.sort().values - r.ratio.sort().values), smoothing),
        # D'Oosterlinck et al. 2024, 2408.06266, equations 7 and 8
        "apo_zero": lambda w, r: torch.sigmoid(-beta * w.ratio) + torch.sigmoid(beta * r.ratio),
        "apo_down": lambda w, r: torch.sigmoid(beta * w.ratio) + torch.sigmoid(-beta * (w.ratio - r.ratio)),
        "discopop": lambda w, r: discopop(beta * (w.ratio - r.ratio), tau),
    }[name]


def exo_pair(logits: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Ji et al. 2024, 2402.00856, equation 16: KL from the policy's preference to the smoothed label."""
    chosen, rejected = torch.sigmoid(logits), torch.sigmoid(-logits)
    return chosen * (logsigmoid(logits) - math.log1p(-smoothing)) + rejected * (
        logsigmoid(-logits) - math.log(smoothing)
    )


def nca_pair(chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
    """Chen et al. 2024, 2402.05369, on two answers, of their rewards."""
    return -logsigmoid(chosen) - 0.5 * logsigmoid(-chosen) - 0.5 * logsigmoid(-rejected)


def robust(logits: torch.Tensor, smoothing: float) -> torch.Tensor:
    """Chowdhury et al. 2024, 2403.00409: unbiased where a share `smoothing` of the labels is flipped."""
    clean, flipped = -logsigmoid(logits), -logsigmoid(-logits)
    return ((1 - smoothing) * clean - smoothing * flipped) / (1 - 2 * smoothing)


def aot(w: Answers, r: Answers, beta: float, smoothing: float) -> torch.Tensor:
    """Melnyk et al. 2024, 2406.05882: the sorted log-ratios of the batch against the reference's."""
    assert w.reference is not None
    assert r.reference is not None
    policy, reference = w.logps - r.logps, w.reference - r.reference
    return _smoothed(beta * (policy.sort().values - reference.sort().values), smoothing)


def discopop(logits: torch.Tensor, tau: float) -> torch.Tensor:
    """Lu et al. 2024, 2406.08414, equation 5: a blend of the logistic and the exponential loss."""
    share = torch.sigmoid(logits / tau)
    return -logsigmoid(logits) * (1 - share) + torch.exp(-logits) * share


def cpo(name: str, beta: float, smoothing: float = 0.0) -> PairLoss:
    """Xu et al. 2024, 2401.08417, equation 3, and TRL's other losses of the same log-probabilities."""
    return {
        "sigmoid": lambda w, r: _smoothed(beta * (w.logps - r.logps), smoothing),
        "hinge": lambda w, r: torch.relu(1 - beta * (w.logps - r.logps)),
        "ipo": lambda w, r: (w.mean_logps - r.mean_logps - 1 / (2 * beta)) ** 2,
    }[name]


def simpo(beta: float, gamma: float, smoothing: float = 0.0) -> PairLoss:
    """Meng et al. 2024, 2405.14734, equation 6."""
    return lambda w, r: _smoothed(beta * (w.mean_logps - r.mean_logps) - gamma, smoothing)


def orpo(beta: float) -> PairLoss:
    """Hong et al. 2024, 2403.07691, equations 4 and 7: the log of the odds ratio, of means by token."""

    def loss(w: Answers, r: Answers) -> torch.Tensor:
        return -beta * logsigmoid(_log_odds(w.mean_logps) - _log_odds(r.mean_logps))

    return loss


def kto(
    ratio: torch.Tensor, wanted: torch.Tensor, drift: torch.Tensor, beta: float, weights: tuple[float, float]
) -> torch.Tensor:
    """Ethayarajh et al. 2024, 2402.01306, equation 7.

    Args:
        ratio: log(policy / reference) of each answer (B,).
        wanted: whether each is wanted (B,), bool.
        drift: the estimate of KL(policy, reference), a scalar that is not negative.
        weights: of wanted and unwanted answers.
    """
    value = torch.sigmoid(beta * torch.where(wanted, ratio - drift, drift - ratio))
    return torch.where(wanted, *(value.new_tensor(weight) for weight in weights)) * (1 - value)


def apo_zero_unpaired(
    ratio: torch.Tensor, wanted: torch.Tensor, drift: torch.Tensor, beta: float, weights: tuple[float, float]
) -> torch.Tensor:
    """D'Oosterlinck et al. 2024, 2408.06266, equation 7, an answer at a time; arguments as of `kto`."""
    return kto(ratio, wanted, torch.zeros_like(drift), beta, weights)


def _smoothed(logits: torch.Tensor, smoothing: float) -> torch.Tensor:
    """-log sigmoid(logits), with a share `smoothing` of it for the other order."""
    return -logsigmoid(logits) * (1 - smoothing) - logsigmoid(-logits) * smoothing


def _log_odds(logps: torch.Tensor) -> torch.Tensor:
    """log(p / (1 - p)) of log p < 0, exact at both ends (Maechler 2012)."""
    below = logps.clamp(max=-torch.finfo(logps.dtype).tiny)
    near = below > -math.log(2)
    # each branch sees values that suit it, so that the one not taken has no infinite gradient
    small = torch.log(-torch.expm1(torch.where(near, below, torch.full_like(below, -0.1))))
    large = torch.log1p(-torch.exp(torch.where(near, torch.full_like(below, -1.0), below)))
    return logps - torch.where(near, small, large)
