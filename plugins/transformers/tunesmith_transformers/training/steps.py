"""What the durable trainer does around each step, and what it says of all of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

if TYPE_CHECKING:
    from tunesmith_transformers.training.durable import Durable


class Steps(TrainerCallback):
    """Ties the adapter and the stop flag to the trainer's steps."""

    def __init__(self, trainer: Durable) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer.adapted.begin(state.max_steps)

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.trainer.sampler is not None:
            # state.epoch is a fraction that may fall short of a whole number by rounding
            self.trainer.sampler.set_epoch(int((state.epoch or 0.0) + 1e-6))

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.trainer.adapted.after_step(state.global_step + 1, state.max_steps)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        if self.trainer.context.stop:
            control.should_save = control.should_training_stop = True
        if state.global_step >= state.max_steps or self.trainer.saves_on(state.global_step):
            control.should_save = True
        if self.trainer.best.due(state.global_step, state.max_steps) and not self.trainer.context.stop:
            control.should_evaluate = True
        return control


def mean_loss(history: list[dict[str, float]]) -> float:
    """Mean loss over all steps, those before a resume included: each record stands for the steps since the one before.

    Trainer's own figure divides the loss since the resume by all steps.
    """
    total, last = 0.0, 0
    for record in history:
        if "loss" in record:
            step = int(record["step"])
            total += record["loss"] * (step - last)
            last = step
    return total / last if last else math.nan
