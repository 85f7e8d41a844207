"""The durable trainer: a mixin over `transformers.Trainer`, hence over every TRL trainer.

What it adds, wherever it stands in front of a trainer class:

- checkpoints that are whole or absent, without pickles, rotated by step number, bound to their run;
- a stop before the update on a NaN or infinite loss or gradient;
- on SIGINT, SIGTERM or SIGHUP the step is finished, committed, and the run says so;
- the adapter's part in a step: `parameter_groups`, `begin`, `extra_loss`, `after_step` with gradients still there;
- the balancing loss of a mixture of experts, whatever the trainer's own loss is;
- an order of rows that depends on seed and epoch alone, so that a resumed run ends in the same bits;
- metrics to the run folder and the console instead of the trainer's own printing.
"""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch.optim.lr_scheduler import LambdaLR
from transformers import TrainerState, TrainingArguments

from tunesmith import Adapted, Context, NumericalError, RecipeError, TrainResult
from tunesmith.store import checkpoints, commit_folder, newest_good, pin, rotate
from tunesmith_transformers.loading.quantized import own_adapter
from tunesmith_transformers.tokens.batching import ColumnCollator, EpochSampler, Rows
from tunesmith_transformers.training import checkpoint
from tunesmith_transformers.training.balance import Balance
from tunesmith_transformers.training.best_checkpoint import Best, falls_on
from tunesmith_transformers.training.precision import check_trained
from tunesmith_transformers.training.settings import EvaluationSettings
from tunesmith_transformers.training.steps import Steps, mean_loss


class Durable:
    """Put in front of a trainer: `class DurableSFT(Durable, SFTTrainer)`.

    Args:
        adapted: what is trained.
        context: where, how, and whether to resume.
        evaluation: the trainer's settings: what is measured between steps, and which checkpoint is kept.
        group_by_length: batches hold rows of like length (needs a dataset of `input_ids`, or `Rows`).
        The rest goes to the trainer's own constructor.
    """

    def __init__(
        self,
        *args: Any,
        adapted: Adapted,
        context: Context,
        evaluation: EvaluationSettings,
        group_by_length: bool = False,
        **options: Any,
    ) -> None:
        self.adapted = adapted
        self.context = context
        self.saves_per_epoch: int | None = getattr(evaluation, "saves_per_epoch", None)
        self.best = Best(evaluation, context)
        self.group_by_length = group_by_length
        self.columns = tuple(adapted.handle.columns)
        self.sampler: EpochSampler | None = None
        self._tokens = self._logged_tokens = 0
        self._logged_at = time.monotonic()
        self._saved_step = -1
        self._measuring = 0.0  # seconds between steps
        check_trained(adapted, context)
        self.balance = Balance(adapted, getattr(options.get("args"), "router_aux_loss_coef", None))
        with own_adapter(adapted.model):
            super().__init__(*args, **options)
        from transformers.trainer_callback import PrinterCallback, ProgressCallback

        if self.columns and not isinstance(self.train_dataset, Rows):  # type: ignore[attr-defined]
            self._check_columns()
            self.data_collator = ColumnCollator(self.data_collator, self.columns)  # type: ignore[has-type]
        self.best.steps_per_epoch = self._steps_per_epoch()
        for callback in (PrinterCallback, ProgressCallback):
            self.remove_callback(callback)  # type: ignore[attr-defined]
        self.add_callback(Steps(self))  # type: ignore[attr-defined]

    # --- running ------------------------------------------------------------------------------
    def run(self) -> TrainResult:
        """Train to the end, or from the newest good checkpoint on when the context says so.

        Raises:
            NumericalError: a loss or gradient is not finite; the last checkpoint stays.
            DataError: the checkpoint belongs to another run.
        """
        begun = time.monotonic()
        folder = None
        if self.context.resume:
            folder = newest_good(self.checkpoint_folder, self.context.reporter.warn)
            if folder is not None:
                checkpoint.check_identity(folder, self.context.identity)
                self.context.reporter.say(f"going on from {folder.name}")
        if folder is None or not self._at_its_end(folder):
            self.train(resume_from_checkpoint=str(folder) if folder else None)  # type: ignore[attr-defined]
        state = self.state
        finished = state.global_step >= state.max_steps or self.best.ended is not None
        if finished and (best := self.best.chosen(self.checkpoint_folder, state.global_step)):
            self._put_back(best)
        return TrainResult(
            steps=state.global_step,
            total_steps=state.max_steps,
            metrics={"train_loss": mean_loss(state.log_history)},
            seconds=time.monotonic() - begun - self._measuring,
            tokens=self._tokens,
            stopped=None if finished else self.context.stop.signal_number,
        )

    def _at_its_end(self, folder: Path) -> bool:
        """Take over a checkpoint of the last step; transformers.Trainer would train one step more from there."""
        state = TrainerState.load_from_json(str(folder / checkpoint.TRAINER_STATE))
        self.best.load_state(checkpoint.read_state(folder).get("best", {}))
        if self.best.due(state.global_step, state.max_steps):  # the signal came before the step was measured
            self._put_back(folder)
            self.best.measure(state.global_step, self.adapted)
        if state.global_step < state.max_steps and self.best.ended is None:
            return False
        self._load_from_checkpoint(str(folder))
        self.adapted.begin(state.max_steps)
        self.state: Any = state
        return True

    def _put_back(self, folder: Path) -> None:
        """The adapter as a checkpoint holds it."""
        self.adapted.load_state(checkpoint.read_tensors(folder / checkpoint.MODEL))
        self.adapted.load_extra_state(checkpoint.read_state(folder)["adapter"])

    @property
    def checkpoint_folder(self) -> Path:
        return Path(self.args.output_dir)  # type: ignore[attr-defined]

    def create_optimizer(self, model: Any = None) -> Any:
        """The trainer's own optimizer, with the adapter's parameter groups taken out of its groups."""
        optimizer = super().create_optimizer(model)  # type: ignore[misc]
        rate = self.args.learning_rate  # type: ignore[attr-defined]
        for wanted in self.adapted.parameter_groups(rate) or ():
            chosen = {id(parameter) for parameter in wanted["params"]}
            for group in list(optimizer.param_groups):
                taken = [parameter for parameter in group["params"] if id(parameter) in chosen]
                if taken:
                    group["params"] = [p for p in group["params"] if id(p) not in chosen]
                    optimizer.add_param_group({**group, **wanted, "params": taken})
        optimizer.param_groups[:] = [group for group in optimizer.param_groups if group["params"]]
        return optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """The trainer's own schedule, or the one that the context gives for all groups alike."""
        if self.context.schedule is None:
            return super().create_scheduler(num_training_steps, optimizer)  # type: ignore[misc]
        self.lr_scheduler: Any = LambdaLR(optimizer or self.optimizer, self.context.schedule)  # type: ignore[attr-defined]
        return self.lr_scheduler

    def _steps_per_epoch(self) -> float:
        """Optimizer steps of a pass over the rows, as transformers.Trainer counts them; 1 for rows without a number."""
        dataset, args = self.train_dataset, self.args  # type: ignore[attr-defined]
        if not hasattr(dataset, "__len__"):
            return 1.0
        batches = math.ceil(len(dataset) / args.train_batch_size)
        return float(max(1, math.ceil(batches / args.gradient_accumulation_steps)))

    def saves_on(self, step: int) -> bool:
        """Whether `saves_per_epoch` asks for a checkpoint after `step`."""
        return self.saves_per_epoch is not None and falls_on(step, self.saves_per_epoch, self.best.steps_per_epoch)

    # --- the step -----------------------------------------------------------------------------
    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The wrapped trainer's loss plus the adapter's own terms, and the balancing loss of a mixture of experts."""
        with self.balance.collected():
            result = super().compute_loss(  # type: ignore[misc]
                model, inputs, return_outputs=return_outputs, num_items_in_batch=num_items_in_batch
            )
        terms = [self.adapted.extra_loss() if model.training else None, self.balance.term()]
        extra = sum(term for term in terms if term is not None)
        if isinstance(extra, int):  # there is none
            return result
        if self._scaled_for_accumulation(num_items_in_batch):
            extra = extra / self.current_gradient_accumulation_steps  # type: ignore[attr-defined]
        if return_outputs:
            return result[0] + extra, result[1]
        return result + extra

    def _scaled_for_accumulation(self, num_items_in_batch: Any) -> bool:
        """Whether the wrapped loss is already normalised over the whole accumulated batch."""
        told = getattr(self, "loss_is_scaled_for_ga", None)
        if told is not None:
            return told
        accepts = getattr(self, "model_accepts_loss_kwargs", False) and num_items_in_batch is not None
        return accepts or getattr(self, "compute_loss_func", None) is not None

    def training_step(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        """One micro-batch; stops when its loss is not finite."""
        mask = inputs.get("attention_mask")
        self._tokens += int(mask.sum()) if mask is not None else int(inputs["input_ids"].numel())
        loss = super().training_step(model, inputs, *args, **kwargs)  # type: ignore[misc]
        if not torch.isfinite(loss):
            self._stop_numerical("loss", float(loss))
        return loss

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)  # type: ignore[misc]
        if not math.isfinite(float(norm)):
            self._stop_numerical("gradient norm", float(norm))
        return norm

    def _stop_numerical(self, what: str, value: float) -> None:
        told = f"the {what} at step {self.state.global_step + 1} is {value}; stopped before the update"
        kept = checkpoints(self.checkpoint_folder)
        last = "no checkpoint had been made yet"
        if kept:
            pin(kept[-1], told)
            last = f"the last good checkpoint is {kept[-1].name}; it is kept from now on"
        raise NumericalError(
            told,
            details=[last],
            fix="Lower the learning rate, add warm-up, or look at the rows of this step for extreme lengths.",
        )

    # --- order of rows ------------------------------------------------------------------------
    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        dataset = train_dataset if train_dataset is not None else self.train_dataset  # type: ignore[attr-defined]
        if not hasattr(dataset, "__len__"):
            return super()._get_train_sampler(dataset)  # type: ignore[misc]
        args: TrainingArguments = self.args  # type: ignore[attr-defined]
        if isinstance(dataset, Rows):
            lengths, grouped = dataset.lengths, self.group_by_length
        else:
            grouped = self.group_by_length and "input_ids" in dataset.column_names
            lengths = [len(ids) for ids in dataset["input_ids"]] if grouped else [1] * len(dataset)
        batch = args.train_batch_size * args.gradient_accumulation_steps
        self.sampler = EpochSampler(lengths, batch, args.seed, grouped)
        return self.sampler

    # --- columns besides tokens ---------------------------------------------------------------
    def _check_columns(self) -> None:
        lacking = set(self.columns) - set(self.train_dataset.column_names)  # type: ignore[attr-defined]
        if lacking:
            raise RecipeError(
                f"the adapter needs {', '.join(sorted(lacking))} in every batch, which this trainer does not provide",
                fix="Choose another adapter in [adapter], or the trainer sft.",
            )

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()  # type: ignore[misc]
        kept = self._signature_columns  # type: ignore[has-type]
        self._signature_columns = [*kept, *(name for name in self.columns if name not in kept)]

    # --- logging ------------------------------------------------------------------------------
    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Hand the step's figures to the run instead of printing them."""
        if "loss" in logs:
            logs.update(self.balance.metrics())
        super().log(logs, start_time)  # type: ignore[misc]
        if "loss" not in logs:
            return
        now = time.monotonic()
        tokens, seconds = self._tokens - self._logged_tokens, now - self._logged_at
        self._logged_tokens, self._logged_at = self._tokens, now
        metrics = {key: float(value) for key, value in logs.items() if isinstance(value, (int, float))}
        if seconds > 0:
            metrics["tokens_per_second"] = round(tokens / seconds, 2)
        self.context.reporter.progress(self.state.global_step, self.state.max_steps, metrics)
        if self.context.stop:  # a signal between the step's end and its saving still stops at this step
            self.control.should_save = self.control.should_training_stop = True  # type: ignore[attr-defined]

    # --- between steps ------------------------------------------------------------------------
    def _evaluate(self, trial: Any, ignore_keys_for_eval: Any, skip_scheduler: bool = False) -> dict[str, float]:
        """Measure the held-out rows; the best state so far is committed, and training may end here."""
        begun = time.monotonic()
        if self.best.due(self.state.global_step, self.state.max_steps):
            better = self.best.measure(self.state.global_step, self.adapted)
            self.control.should_save |= better  # type: ignore[attr-defined]
            if self.best.ended is not None or self.context.stop:
                self.control.should_save = self.control.should_training_stop = True  # type: ignore[attr-defined]
        took = time.monotonic() - begun
        self._measuring += took
        self._logged_at += took
        return {}

    def _determine_best_metric(self, metrics: Any, trial: Any) -> bool:
        return False  # `Best` decides

    # --- checkpoints --------------------------------------------------------------------------
    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        state = self.state
        if state.global_step == self._saved_step:
            return
        self.context.sync()
        target = self.checkpoint_folder / f"step-{state.global_step:06d}"
        commit_folder(target, self._write_checkpoint)
        self._saved_step = state.global_step
        limit = self.args.save_total_limit or 1  # type: ignore[attr-defined]
        rotate(self.checkpoint_folder, limit, self.best.pinned(self.checkpoint_folder))

    def _write_checkpoint(self, folder: Path) -> None:
        optimizer, optimizer_rest = checkpoint.flatten_optimizer(self.optimizer.state_dict())  # type: ignore[attr-defined]
        generators, generators_rest = checkpoint.random_state()
        checkpoint.write_tensors(folder / checkpoint.MODEL, self.adapted.state())
        checkpoint.write_tensors(folder / checkpoint.OPTIMIZER, optimizer)
        checkpoint.write_tensors(folder / checkpoint.RANDOM, generators)
        self.state.save_to_json(str(folder / checkpoint.TRAINER_STATE))
        content = {
            "identity": dict(self.context.identity),
            "tokens": self._tokens,
            "adapter": self.adapted.extra_state(),
            "best": self.best.state(),
            "optimizer": optimizer_rest,
            "scheduler": self.lr_scheduler.state_dict(),
            "random": generators_rest,
        }
        (folder / checkpoint.STATE).write_text(json.dumps(content) + "\n", encoding="utf-8")

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        folder = Path(resume_from_checkpoint)
        content = checkpoint.read_state(folder)
        self._put_back(folder)
        self._tokens = self._logged_tokens = content["tokens"]

    def _load_optimizer_and_scheduler(self, folder: str | None) -> None:
        if folder is None:
            return
        checkpoint.load_optimizer(Path(folder), self.optimizer)  # type: ignore[attr-defined]
        self.lr_scheduler.load_state_dict(checkpoint.read_state(Path(folder))["scheduler"])

    def _load_rng_state(self, folder: str | None) -> None:
        if folder is None:
            return
        content = checkpoint.read_state(Path(folder))
        checkpoint.set_random_state(checkpoint.read_tensors(Path(folder) / checkpoint.RANDOM), content["random"])

    def _load_scaler(self, folder: str | None) -> None:
        """Nothing to load: weights are trained in float32 or bfloat16, without a gradient scaler."""
