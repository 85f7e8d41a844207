"""What a step learns from its answers: several passes of clipped updates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from tunesmith import Adapted, NumericalError
from tunesmith_ppo import PpoSettings, numerics
from tunesmith_ppo.rollout import Micro, scaled_predictions, token_logps
from tunesmith_ppo.values import Values


class Updater:
    """Takes the optimizer steps of a PPO step.

    Args:
        total: optimizer steps of the whole run, as the adapters are told.
    """

    def __init__(
        self, policy: Adapted, values: Values, optimizer: Any, scheduler: Any, settings: PpoSettings, total: int
    ) -> None:
        self.policy = policy
        self.values = values
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.settings = settings
        self.total = total
        self.trained = [*policy.trainable().values(), *values.parameters()]
        self.adapters = [policy] if values.model is None else [policy, values.model]

    def learn(self, micros: Sequence[Micro], step: int, seed: int) -> dict[str, float]:
        """All passes over the answers of a step; the means of what they show.

        Args:
            step: counted from 1; with `seed` it decides the order.

        Raises:
            NumericalError: a loss or gradient is not finite; nothing is updated by it.
        """
        settings = self.settings
        generator = torch.Generator().manual_seed(seed)
        done, updates = (step - 1) * settings.num_ppo_epochs * settings.num_mini_batches, 0
        sums: dict[str, float] = {}
        for _ in range(settings.num_ppo_epochs):
            order = torch.randperm(len(micros), generator=generator).tolist()
            parts = [order[start :: settings.num_mini_batches] for start in range(settings.num_mini_batches)]
            for number, part in enumerate(parts, 1):
                if not part:
                    continue
                metrics = self._update([micros[index] for index in part], step)
                for adapted in self.adapters:
                    with adapted.use():
                        adapted.after_step(done + updates + number, self.total)
                self.optimizer.zero_grad(set_to_none=True)
                for name, value in metrics.items():
                    sums[name] = sums.get(name, 0.0) + value
                sums["updates"] = sums.get("updates", 0.0) + 1
                if settings.target_kl is not None and metrics["approx_kl"] > settings.target_kl:
                    return self._means(sums, step)
            updates += settings.num_mini_batches
        return self._means(sums, step)

    def _means(self, sums: dict[str, float], step: int) -> dict[str, float]:
        count = sums.pop("updates")
        # the schedule follows the steps, also where updates were left out
        wanted = step * self.settings.num_ppo_epochs * self.settings.num_mini_batches
        while self.scheduler.last_epoch < wanted:
            self.scheduler.step()
        return {**{name: value / count for name, value in sums.items()}, "updates": count}

    def _update(self, micros: Sequence[Micro], step: int) -> dict[str, float]:
        """One optimizer step on the mean over all tokens of some answers."""
        settings = self.settings
        tokens = sum(len(micro.logps) for micro in micros)
        totals: dict[str, float] = {}
        for micro in micros:
            share = len(micro.logps) / tokens
            with self.policy.use() as model:
                model.eval()  # Detail 7: dropout would make the ratios differ from 1 before anything is learned
                logits, targets, hidden = scaled_predictions(model, micro.inputs, settings.temperature)
                logps = token_logps(logits, targets)  # (N,)
                losses, clipped = numerics.policy_losses(logps, micro.logps, micro.advantages, settings.cliprange)
                loss = losses.mean()
                value_loss = torch.zeros((), device=loss.device)
                if self.values.on_policy:
                    value_loss, value_clipped = self._value_loss(self.values.of_hidden(hidden), micro)
                self._backward(self.policy, (loss + settings.vf_coef * value_loss) * share, len(micros), step)
            if not self.values.on_policy:
                with self.values.use() as model:
                    value_loss, value_clipped = self._value_loss(self.values.of_inputs(model, micro.inputs), micro)
                    assert self.values.model is not None
                    self._backward(self.values.model, settings.vf_coef * value_loss * share, len(micros), step)
            seen = {
                "loss": loss.detach() + settings.vf_coef * value_loss.detach(),
                "policy_loss": loss.detach(),
                "value_loss": value_loss.detach(),
                "approx_kl": numerics.approximate_kl(logps.detach(), micro.logps),
                "clip_fraction": clipped.float().mean(),
                "value_clip_fraction": value_clipped.float().mean(),
            }
            for name, value in seen.items():
                totals[name] = totals.get(name, 0.0) + float(value) * share
        norm = float(nn.utils.clip_grad_norm_(self.trained, settings.max_grad_norm or math.inf))
        if not math.isfinite(norm):
            raise _not_finite("gradient norm", norm, step)
        self.optimizer.step()
        self.scheduler.step()
        return {**totals, "grad_norm": norm}

    def _value_loss(self, values: torch.Tensor, micro: Micro) -> tuple[torch.Tensor, torch.Tensor]:
        losses, clipped = numerics.value_losses(values, micro.values, micro.returns, self.settings.cliprange_value)
        return losses.mean(), clipped

    def _backward(self, adapted: Adapted, loss: torch.Tensor, parts: int, step: int) -> None:
        extra = adapted.extra_loss()
        if extra is not None:
            loss = loss + extra / parts
        if not torch.isfinite(loss):
            raise _not_finite("loss", float(loss.detach()), step)
        if loss.requires_grad:
            loss.backward()


def _not_finite(what: str, value: float, step: int) -> NumericalError:
    return NumericalError(
        f"the {what} in step {step} is {value}; stopped before the update",
        fix="Lower the learning rate, raise kl_coef, or look at the rewards of the steps before.",
    )
