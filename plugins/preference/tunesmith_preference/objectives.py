"""From a trainer's settings to what it minimizes: a loss on pairs, a likelihood term, and the reward that is logged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from tunesmith_preference import losses
from tunesmith_preference.losses import Answers, PairLoss
from tunesmith_preference.settings import CpoSettings, DpoSettings, IpoSettings, OrpoSettings, SimpoSettings


@dataclass(frozen=True)
class Objective:
    """What is minimized: the mean of `loss` over pairs + `nll_weight` x the mean of -log p over the chosen tokens.

    Args:
        loss: one value a pair; None when there is the likelihood term alone.
        reward: the implicit reward of each answer (B,), for the metrics.
        nll_weight: weight of the likelihood term.
        prompt_loss: the likelihood term covers the prompts too.
        sorts: the loss compares sorted values of a batch, which belong to no pair.
    """

    loss: PairLoss | None
    reward: Callable[[Answers], torch.Tensor]
    nll_weight: float = 0.0
    prompt_loss: bool = False
    sorts: bool = False


def dpo(settings: DpoSettings) -> Objective:
    """Rafailov et al. 2023, 2305.18290, equation 7, and the losses that came after it."""
    names = (settings.loss_type,) if isinstance(settings.loss_type, str) else settings.loss_type
    weights = settings.loss_weights or (1.0,) * len(names)
    parts = [
        (weight, losses.dpo(name, settings.beta, settings.label_smoothing, settings.discopop_tau))
        for name, weight in zip(names, weights, strict=True)
        if name != "sft"
    ]

    def total(w: Answers, r: Answers) -> torch.Tensor:
        return sum(weight * loss(w, r) for weight, loss in parts)

    return Objective(
        loss=total if parts else None,
        reward=lambda side: settings.beta * side.ratio,
        sorts=any(name.startswith("aot") for name in names),
        nll_weight=sum(weight for name, weight in zip(names, weights, strict=True) if name == "sft"),
    )


def ipo(settings: IpoSettings) -> Objective:
    """Azar et al. 2023, 2310.12036, equation 17."""
    return Objective(loss=losses.dpo("ipo", settings.beta), reward=lambda side: settings.beta * side.mean_ratio)


def orpo(settings: OrpoSettings) -> Objective:
    """Hong et al. 2024, 2403.07691, equation 6."""
    return Objective(
        loss=losses.orpo(settings.beta),
        reward=lambda side: settings.beta * side.mean_logps,
        nll_weight=1.0,
        prompt_loss=settings.prompt_loss,
    )


def cpo(settings: CpoSettings) -> Objective:
    """Xu et al. 2024, 2401.08417, equation 5."""
    by_token = settings.loss_type == "ipo"
    return Objective(
        loss=losses.cpo(settings.loss_type, settings.beta, settings.label_smoothing),
        reward=lambda side: settings.beta * (side.mean_logps if by_token else side.logps),
        nll_weight=settings.cpo_alpha,
    )


def simpo(settings: SimpoSettings) -> Objective:
    """Meng et al. 2024, 2405.14734, equation 6."""
    return Objective(
        loss=losses.simpo(settings.beta, settings.simpo_gamma, settings.label_smoothing),
        reward=lambda side: settings.beta * side.mean_logps,
        nll_weight=settings.cpo_alpha,
    )
