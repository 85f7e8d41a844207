"""A step's answers, made into what PPO's updates learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tunesmith import Adapted
from tunesmith_ppo import PpoSettings, numerics
from tunesmith_ppo.values import Values
from tunesmith_transformers.online.answers import Answers, diverged
from tunesmith_transformers.online.loop import Experience
from tunesmith_transformers.online.numerics import entropy, token_logps
from tunesmith_transformers.online.prompts import Prompt
from tunesmith_transformers.online.rewards import Scores
from tunesmith_transformers.training.losses import predictions


@dataclass
class Micro:
    """Some answers as one forward pass takes them, and what is learned from their N tokens.

    Args:
        inputs: `input_ids`, `attention_mask`, `labels`, each (B, T), on the model's device, and the columns (B,).
        logps, values, advantages, returns: (N,), those of the rollout.
    """

    inputs: dict[str, torch.Tensor]
    logps: torch.Tensor
    values: torch.Tensor
    advantages: torch.Tensor
    returns: torch.Tensor


class Weigher:
    """Weighs answers against the reference and the values."""

    def __init__(self, answers: Answers, reference: Adapted, values: Values, settings: PpoSettings) -> None:
        self.answers = answers
        self.reference = reference
        self.values = values
        self.settings = settings

    def weigh(
        self, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]], scores: Scores, kl_coef: float
    ) -> Experience[Micro]:
        """Log-probabilities, values, rewards, advantages and returns of answers.

        Raises:
            Stopped: the context says so.
            NumericalError: a log-probability is not finite.
        """
        settings = self.settings
        # The updates take the very batches that the old log-probabilities are computed in: before the first update
        # every ratio is then exactly 1.
        batches = self.answers.batches(prompts, answers)
        # Detail 23.3: an answer that does not end gets a fixed low reward; a reward model has seen no such answers.
        counted = self.answers.counted(scores.total, batches.ended)
        mask = batches.mask  # (B, L)
        logps, values, uncertainty = batches.table(), batches.table(), batches.table()
        with torch.no_grad():
            with self.answers.policy.use() as model:
                model.eval()  # Detail 7: no dropout, here as in the updates
                for batch, made in zip(batches.places, batches.inputs, strict=True):
                    logits, targets, hidden = predictions(model, made)
                    batches.fill(logps, batch, token_logps(logits, targets, settings.temperature))
                    batches.fill(uncertainty, batch, entropy(logits, settings.temperature))
                    del logits  # the largest tensor; the next batch makes its own
                    if self.values.on_policy:
                        batches.fill(values, batch, self.values.of_hidden(hidden))
            if not self.values.on_policy:
                with self.values.use() as model:
                    for batch, made in zip(batches.places, batches.inputs, strict=True):
                        batches.fill(values, batch, self.values.of_inputs(model, made))
        kl = logps - self.answers.logps(self.reference, batches)  # (B, L)
        if not torch.isfinite(kl[mask]).all():
            raise diverged()
        rewards = numerics.token_rewards(counted, kl, mask, kl_coef)
        if settings.whiten_rewards:
            rewards = numerics.whiten(rewards, mask, shift_mean=False)  # Detail 24
        advantages, returns = numerics.generalized_advantages(rewards, values, mask, settings.gamma, settings.lam)
        explained = numerics.explained_variance(values[mask], returns[mask])
        if settings.whiten_advantages:
            advantages = numerics.whiten(advantages, mask)  # Detail 25
        parts = (logps, values, advantages, returns)
        micros = [
            Micro(made, *(part[batch][mask[batch]].to(made["input_ids"].device) for part in parts))
            for batch, made in zip(batches.places, batches.inputs, strict=True)
        ]
        metrics = {
            **scores.metrics(),
            "reward_with_penalties": float((counted - kl_coef * kl.sum(dim=1)).mean()),
            "kl": float(kl.sum(dim=1).mean()),
            "kl_coef": kl_coef,
            "entropy": float(uncertainty[mask].mean()),
            "explained_variance": explained,
            "length": float(mask.sum(dim=1).float().mean()),
            "ended": float(batches.ended.float().mean()),
        }
        return Experience(micros, metrics, batches.tokens)
