"""The losses of GRPO and RLOO over a step's answers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tunesmith import Adapted
from tunesmith_grpo import numerics
from tunesmith_grpo.settings import GroupSettings, GrpoSettings, RlooSettings
from tunesmith_transformers.online.numerics import approximate_kl, clipped_losses, entropy, token_logps
from tunesmith_transformers.online.updates import Updater
from tunesmith_transformers.training.losses import predictions, summed


@dataclass
class Micro:
    """Some answers (b) as one forward pass takes them, and what is learned from their N tokens.

    Args:
        inputs: `input_ids`, `attention_mask`, `labels`, each (b, T), on the model's device, and the columns (b,).
        rows: the answer of each token, (N,).
        logps: of the tokens when they were drawn, (N,).
        reference: of the tokens under the reference, (N,); None where nobody asks.
        advantages: of the answers, (b,).
        kept: whether an answer counts in the loss, (b,) bool.
    """

    inputs: dict[str, torch.Tensor]
    rows: torch.Tensor
    logps: torch.Tensor
    reference: torch.Tensor | None
    advantages: torch.Tensor
    kept: torch.Tensor

    @property
    def kept_tokens(self) -> int:
        """Tokens of the answers that count."""
        return int(self.kept[self.rows].sum())


class GroupUpdater(Updater[Micro]):
    """Takes the optimizer steps of a step; a derived class says what the loss is.

    Args:
        made: the optimizer and the schedule of its rates.
        steps: of the whole run.
    """

    def __init__(self, policy: Adapted, made: tuple[Any, Any], settings: GroupSettings, steps: int) -> None:
        super().__init__([policy], list(policy.trainable().values()), *made, settings, settings.num_iterations, steps)
        self.policy = policy
        self.temperature = settings.temperature
        self.low = settings.epsilon
        self.high = settings.epsilon if settings.epsilon_high is None else settings.epsilon_high

    @abstractmethod
    def loss(
        self, logps: torch.Tensor, micro: Micro, answers: int, tokens: int
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The share of some answers in the loss of an optimizer step, and more to log, each a share of its mean.

        Args:
            logps: of their tokens now, (N,).
            answers, tokens: of the optimizer step; tokens of kept answers only.
        """

    def gradients(self, micros: Sequence[Micro], step: int) -> dict[str, float]:
        """Of the loss over some answers."""
        answers = sum(len(micro.advantages) for micro in micros)
        kept, tokens = sum(micro.kept_tokens for micro in micros), sum(len(micro.rows) for micro in micros)
        totals: dict[str, float] = {}
        for micro in micros:
            with self.policy.use() as model:
                model.eval()  # dropout would make the ratios differ from 1 before anything is learned
                logits, targets, _ = predictions(model, micro.inputs)
                logps = token_logps(logits, targets, self.temperature)  # (N,)
                loss, seen = self.loss(logps, micro, answers, kept)
                self.backward(self.policy, loss, len(micros), step)
            share = len(micro.rows) / tokens
            seen |= {
                "loss": loss.detach(),
                "entropy": entropy(logits, self.temperature).mean() * share,
                "approx_kl": approximate_kl(logps.detach(), micro.logps) * share,
            }
            for name, value in seen.items():
                totals[name] = totals.get(name, 0.0) + float(value)
        return totals


class GrpoUpdater(GroupUpdater):
    """Shao et al. 2024, arXiv:2402.03300, equation 3, and its variants."""

    def __init__(self, policy: Adapted, made: tuple[Any, Any], settings: GrpoSettings, steps: int) -> None:
        super().__init__(policy, made, settings, steps)
        self.settings = settings

    def loss(
        self, logps: torch.Tensor, micro: Micro, answers: int, tokens: int
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        settings, own = self.settings, micro.advantages[micro.rows]  # (N,)
        sequence = settings.importance_sampling_level == "sequence"
        ratio = numerics.ratios(logps, micro.logps, micro.rows, len(micro.advantages), sequence)  # (N,)
        if settings.loss_type == "cispo":
            losses, clipped = numerics.cispo_losses(ratio, logps, own, self.high)
        else:
            losses, clipped = clipped_losses(ratio, own, self.low, self.high)
        if micro.reference is not None:
            kl = numerics.reference_kl(logps, micro.reference)
            losses = losses + settings.beta * (kl * ratio if settings.use_bias_correction_kl else kl)
        counted = clipped & micro.kept[micro.rows]
        loss = numerics.over_tokens(
            losses, micro.rows, micro.kept, settings.loss_type, answers, tokens, settings.max_new_tokens
        )
        return loss, {"clip_fraction": counted.sum() / max(tokens, 1)}


class RlooUpdater(GroupUpdater):
    """The clipped ratio of whole answers, as TRL's.

    At the first update the ratio is 1 and the gradient that of Ahmadian et al. 2024, arXiv:2402.14740.
    """

    def __init__(self, policy: Adapted, made: tuple[Any, Any], settings: RlooSettings, steps: int) -> None:
        super().__init__(policy, made, settings, steps)

    def loss(
        self, logps: torch.Tensor, micro: Micro, answers: int, tokens: int
    ) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        count = len(micro.advantages)
        now, then = (summed(values, micro.rows, count) * micro.kept for values in (logps, micro.logps))  # (b,)
        losses, clipped = clipped_losses(torch.exp(now - then), micro.advantages, self.low, self.high)
        return losses.sum() / answers, {"clip_fraction": clipped.sum() / answers}
