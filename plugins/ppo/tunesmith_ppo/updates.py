"""The loss of PPO over a step's answers: clipped ratios, and clipped values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from tunesmith import Adapted
from tunesmith_ppo import PpoSettings, numerics
from tunesmith_ppo.rollout import Micro
from tunesmith_ppo.values import Values
from tunesmith_transformers.online.numerics import approximate_kl, token_logps
from tunesmith_transformers.online.updates import Updater
from tunesmith_transformers.training.losses import predictions


class PpoUpdater(Updater[Micro]):
    """Takes the optimizer steps of a PPO step.

    Args:
        made: the optimizer and the schedule of its rates.
        steps: of the whole run.
    """

    def __init__(
        self, policy: Adapted, values: Values, made: tuple[Any, Any], settings: PpoSettings, steps: int
    ) -> None:
        adapters = [policy] if values.model is None else [policy, values.model]
        parameters = [*policy.trainable().values(), *values.parameters()]
        super().__init__(adapters, parameters, *made, settings, settings.num_ppo_epochs, steps)
        self.policy = policy
        self.values = values
        self.settings = settings
        self.target_kl = settings.target_kl

    def gradients(self, micros: Sequence[Micro], step: int) -> dict[str, float]:
        """Of the mean over all tokens of some answers."""
        settings = self.settings
        tokens = sum(len(micro.logps) for micro in micros)
        totals: dict[str, float] = {}
        for micro in micros:
            share = len(micro.logps) / tokens
            with self.policy.use() as model:
                model.eval()  # Detail 7: dropout would make the ratios differ from 1 before anything is learned
                logits, targets, hidden = predictions(model, micro.inputs)
                logps = token_logps(logits, targets, settings.temperature)  # (N,)
                del logits  # the largest tensor: the gradients alone keep it
                losses, clipped = numerics.policy_losses(logps, micro.logps, micro.advantages, settings.cliprange)
                loss = losses.mean()
                value_loss = torch.zeros((), device=loss.device)
                if self.values.on_policy:
                    value_loss, value_clipped = self._value_loss(self.values.of_hidden(hidden), micro)
                self.backward(self.policy, (loss + settings.vf_coef * value_loss) * share, len(micros), step)
            if not self.values.on_policy:
                with self.values.use() as model:
                    value_loss, value_clipped = self._value_loss(self.values.of_inputs(model, micro.inputs), micro)
                    assert self.values.model is not None
                    self.backward(self.values.model, settings.vf_coef * value_loss * share, len(micros), step)
            seen = {
                "loss": loss.detach() + settings.vf_coef * value_loss.detach(),
                "policy_loss": loss.detach(),
                "value_loss": value_loss.detach(),
                "approx_kl": approximate_kl(logps.detach(), micro.logps),
                "clip_fraction": clipped.float().mean(),
                "value_clip_fraction": value_clipped.float().mean(),
            }
            for name, value in seen.items():
                totals[name] = totals.get(name, 0.0) + float(value) * share
        return totals

    def _value_loss(self, values: torch.Tensor, micro: Micro) -> tuple[torch.Tensor, torch.Tensor]:
        losses, clipped = numerics.value_losses(values, micro.values, micro.returns, self.settings.cliprange_value)
        return losses.mean(), clipped
