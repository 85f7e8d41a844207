"""One adapter on the tiny model: made afresh as a stage makes it, trained as a trainer must train it."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from tunesmith.adapted import Adapted, ModelHandle
from tunesmith.artifact import adapt
from tunesmith.context import Context
from tunesmith.plan import Use
from tunesmith.registry import Entry
from tunesmith.spec import Adapter, Settings
from tunesmith.testing.checks_settings import watched
from tunesmith.testing.tiny import tiny_handle

SEED = 7
STEPS = 8  # of a whole training; a resumed one stops in the middle
LEARNING_RATE = 5e-3
ROWS, LENGTH = 4, 12


@lru_cache(maxsize=1)
def _base() -> ModelHandle:
    return tiny_handle()


def base_handle() -> ModelHandle:
    """A copy of the frozen tiny model that may be changed."""
    base = _base()
    return replace(base, model=copy.deepcopy(base.model), tokenizer=copy.deepcopy(base.tokenizer))


def base_model() -> Any:
    """The frozen tiny model itself; not to be changed."""
    return _base().model


class Trial:
    """An adapter with one set of settings.

    Args:
        seen: collects the names of the settings that the adapter reads.
        folder: an existing folder for what is saved.
    """

    def __init__(self, entry: Entry, settings: Settings, seen: set[str], folder: Path) -> None:
        assert isinstance(entry.component, Adapter)
        self.record: Adapter = entry.component
        self.settings = settings
        self.folder = folder
        plugin = entry.plugin
        self.use = Use(self.record, entry.qualified, plugin.distribution, plugin.version, watched(settings, seen))
        self.batch = make_batch()
        self._complete = False

    def fresh(self, handle: ModelHandle | None = None, seed: int = SEED) -> Adapted:
        """The adapter applied to a fresh copy of the model."""
        place = {"folder": self.folder, "stage_folder": self.folder, "cache": self.folder}
        context = Context(seed=seed, device="cpu", **place)  # type: ignore[arg-type]
        adapted = adapt(handle or base_handle(), self.use, context)
        if not self._complete:
            self.batch |= columns(adapted, len(self.batch["input_ids"]))
            self._complete = True
        return adapted

    def train(self, adapted: Adapted, optimizer: Any, first: int, last: int) -> None:
        """Do the optimizer steps `first` to `last`, counted from 1, of a training of `STEPS` steps."""
        import torch

        adapted.model.train()
        for step in range(first, last + 1):
            torch.manual_seed(step)  # dropout must not depend on where the training was interrupted
            total_loss(adapted, self.batch).backward()
            optimizer.step()
            adapted.after_step(step, STEPS)
            optimizer.zero_grad(set_to_none=True)


def make_batch() -> dict[str, Any]:
    """Random rows of equal length, the same in every call: `input_ids`, `attention_mask`, `labels` (rows, length)."""
    import torch

    generator = torch.Generator().manual_seed(SEED)
    ids = torch.randint(0, 256, (ROWS, LENGTH), generator=generator)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids.clone()}


def columns(adapted: Adapted, rows: int) -> dict[str, Any]:
    """What the adapted model takes besides tokens, each (rows,): the columns' own examples in turn."""
    import torch

    wanted = adapted.handle.columns.items()
    return {name: torch.tensor([c.examples[i % len(c.examples)] for i in range(rows)]) for name, c in wanted}


def make_optimizer(adapted: Adapted) -> Any:
    """AdamW over every parameter that requires gradients, as the usual trainers build it."""
    import torch

    moved = [parameter for parameter in adapted.model.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(moved, lr=LEARNING_RATE, weight_decay=0.0)


def total_loss(adapted: Adapted, batch: dict[str, Any]) -> Any:
    """The model's loss and what the adapter adds to it: a scalar tensor."""
    loss = adapted.model(**batch).loss
    extra = adapted.extra_loss()
    return loss if extra is None else loss + extra


def logits(model: Any, batch: dict[str, Any]) -> Any:
    """What the model answers without dropout: (rows, length, vocabulary)."""
    import torch

    model.eval()
    with torch.no_grad():
        return model(**{name: tensor for name, tensor in batch.items() if name != "labels"}).logits.detach().clone()


def base_logits(batch: dict[str, Any]) -> Any:
    """What the frozen tiny model answers to the tokens alone."""
    return logits(base_model(), {name: batch[name] for name in ("input_ids", "attention_mask")})


def loss(model: Any, batch: dict[str, Any]) -> float:
    """The model's own loss without dropout."""
    import torch

    model.eval()
    with torch.no_grad():
        return float(model(**batch).loss)


def gradients(adapted: Adapted) -> dict[str, Any]:
    """Copies of the gradients of the trainable parameters, by name."""
    return {name: p.grad.detach().clone() for name, p in adapted.trainable().items() if p.grad is not None}


def distance(a: Any, b: Any) -> float:
    """The largest difference between two tensors, relative to the largest value in the second."""
    if a.shape != b.shape:
        return float("inf")
    return float((a - b).abs().max() / b.abs().max().clamp(min=1e-12))


@contextmanager
def steady() -> Iterator[None]:
    """One thread, so that results repeat bit by bit; the caller's generators and threads are put back."""
    import numpy
    import torch

    threads, state, numbers = torch.get_num_threads(), random.getstate(), numpy.random.get_state()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.set_num_threads(threads)
        random.setstate(state)
        numpy.random.set_state(numbers)
