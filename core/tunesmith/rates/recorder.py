"""Hearing a trainer during a range test: the loss of every step is kept, and the test ends when enough was seen."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from tunesmith.context import Reporter
from tunesmith.errors import PluginError, Stopped
from tunesmith.plan import Use
from tunesmith.rates.curve import Divergence
from tunesmith.store import disk_errors, write_file

NEAR = 1e-3  # relative difference of a rate that a trainer reports from the one that is due
MEND = "Take what decides steps or logging out of [trainer.arguments]; else this is a defect of that plugin."


class Ended(Stopped):
    """The test has seen enough."""

    def __init__(self, steps: int) -> None:
        super().__init__(0, f"the range test ended after {steps} steps")


class Recorder:
    """Hears the trainer, keeps the loss of every step, and ends the test when it has seen enough.

    Args:
        use: the trainer.
        rates: those of the steps.
        path: a JSON Lines file, a line a step.

    `losses` are those of the steps so far, all finite; `diverged` is the rate at which they diverged.
    """

    def __init__(self, inner: Reporter, use: Use, rates: Sequence[float], path: Path) -> None:
        self.inner = inner
        self.use = use
        self.rates = rates
        self.path = path
        self.losses: list[float] = []
        self.diverged: float | None = None
        self._watch = Divergence()
        self._scale: float | None = None  # what the trainer reports over what is due: one group's rate stands for all
        write_file(self.path, "")

    def phase(self, name: str) -> None:
        self.inner.phase(name)

    def say(self, message: str) -> None:
        self.inner.say(message)

    def warn(self, message: str) -> None:
        self.inner.warn(message)

    def progress(self, step: int, total: int, metrics: Mapping[str, float]) -> None:
        self.inner.progress(step, total, metrics)
        if "loss" not in metrics:
            return
        self._check(step, total, metrics)
        rate, loss = self.rates[step - 1], float(metrics["loss"])
        line = json.dumps({"step": step, "learning_rate": rate, "loss": loss if math.isfinite(loss) else None})
        with disk_errors(self.path, len(line)), self.path.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")
        if self._watch.after(loss):
            self.diverged = rate
        if math.isfinite(loss):
            self.losses.append(loss)
        if self.diverged or step == len(self.rates):
            raise Ended(step)  # before the trainer saves its last step

    def _check(self, step: int, total: int, metrics: Mapping[str, float]) -> None:
        """Hold the trainer to what its record says: every step is reported, and its rate is the one that is due.

        Raises:
            PluginError: it is not.
        """
        due = len(self.losses) + 1
        if (step, total) != (due, len(self.rates)):
            raise PluginError(
                f"{named(self.use)} reported step {step} of {total} where step {due} of {len(self.rates)} was due",
                fix=MEND,
            )
        told, rate = metrics.get("learning_rate"), self.rates[step - 1]
        if told is None:
            return
        if self._scale is None:
            self._scale = told / rate
        wanted = self._scale * rate
        if not abs(told - wanted) <= NEAR * wanted:
            raise PluginError(
                f"{named(self.use)} took step {step} at a learning rate of {told:.3g} instead of {wanted:.3g}",
                fix="Its record says that it follows `context.schedule`, and it does not: a defect of that plugin.",
            )


def named(use: Use) -> str:
    """A trainer with where it comes from, for a message."""
    return f"trainer {use.component.name!r} of {use.distribution} {use.version}"
