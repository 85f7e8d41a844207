"""What a step learns from its answers: several passes, each of one or more optimizer steps."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Generic, TypeVar

import torch
from torch import nn

from tunesmith import Adapted, NumericalError
from tunesmith_transformers.online.settings import OnlineSettings
from tunesmith_transformers.training.balance import Balance

Micro = TypeVar("Micro")


class Updater(ABC, Generic[Micro]):
    """Takes the optimizer steps of a step; a method derives it and says what the loss is.

    Args:
        adapters: told of every optimizer step; their gradients are still there then.
        parameters: all that is trained.
        passes: over the answers of a step.
        steps: of the whole run.
    """

    #: A step's further updates are left out when one has moved the policy by more than this; None never.
    target_kl: float | None = None

    def __init__(
        self,
        adapters: Sequence[Adapted],
        parameters: Sequence[nn.Parameter],
        optimizer: Any,
        scheduler: Any,
        settings: OnlineSettings,
        passes: int,
        steps: int,
    ) -> None:
        self.adapters = list(adapters)
        self.trained = list(parameters)
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.max_grad_norm = settings.max_grad_norm
        self.parts = settings.num_mini_batches
        self.passes = passes
        self.total = steps * passes * self.parts
        self.balances = [(adapted, Balance(adapted)) for adapted in self.adapters]

    @abstractmethod
    def gradients(self, micros: Sequence[Micro], step: int) -> dict[str, float]:
        """Add up the gradients of the loss over some answers with `backward`; what to log of it.

        A figure `approx_kl` is looked at where there is a `target_kl`.
        """

    def learn(self, micros: Sequence[Micro], step: int, seed: int) -> dict[str, float]:
        """All passes over the answers of a step; the means of what they show.

        Args:
            step: counted from 1; with `seed` it decides the order.

        Raises:
            NumericalError: a loss or gradient is not finite; nothing is updated by it.
        """
        generator = torch.Generator().manual_seed(seed)
        done, updates = (step - 1) * self.passes * self.parts, 0
        sums: dict[str, float] = {}
        for _ in range(self.passes):
            order = torch.randperm(len(micros), generator=generator).tolist()
            parts = [order[start :: self.parts] for start in range(self.parts)]
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
                if self.target_kl is not None and metrics["approx_kl"] > self.target_kl:
                    return self._means(sums, step)
            updates += self.parts
        return self._means(sums, step)

    def backward(self, adapted: Adapted, loss: torch.Tensor, parts: int, step: int) -> None:
        """The gradients of a share of the loss, of the adapter's own term, and of its experts' balancing loss.

        Args:
            parts: shares that make one optimizer step; each brings that part of these terms.

        Raises:
            NumericalError: the loss is not finite.
        """
        balance = next((own for other, own in self.balances if other is adapted), None)
        for extra in (adapted.extra_loss(), balance.term() if balance else None):
            if extra is not None:
                loss = loss + extra / parts
        if not torch.isfinite(loss):
            raise _not_finite("loss", float(loss.detach()), step)
        if loss.requires_grad:
            loss.backward()

    def _means(self, sums: dict[str, float], step: int) -> dict[str, float]:
        count = sums.pop("updates")
        # the schedule follows the steps, also where updates were left out
        wanted = step * self.passes * self.parts
        while self.scheduler.last_epoch < wanted:
            self.scheduler.step()
        return {**{name: value / count for name, value in sums.items()}, "updates": count}

    def _update(self, micros: Sequence[Micro], step: int) -> dict[str, float]:
        with ExitStack() as stack:
            for _, balance in self.balances:
                stack.enter_context(balance.collected())
            metrics = self.gradients(micros, step)
        for _, balance in self.balances:
            metrics |= balance.metrics()
        norm = float(nn.utils.clip_grad_norm_(self.trained, self.max_grad_norm or math.inf))
        if not math.isfinite(norm):
            raise _not_finite("gradient norm", norm, step)
        self.optimizer.step()
        self.scheduler.step()
        return {**metrics, "grad_norm": norm}


def _not_finite(what: str, value: float, step: int) -> NumericalError:
    return NumericalError(
        f"the {what} in step {step} is {value}; stopped before the update",
        fix="Lower the learning rate, hold the policy closer to its reference, or look at the rewards of the steps "
        "before.",
    )
