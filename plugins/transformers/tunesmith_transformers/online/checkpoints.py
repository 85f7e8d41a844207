"""What is kept of a run between two of its steps, on the same store as every trainer's."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from tunesmith import Context
from tunesmith.store import commit_folder, newest_good, rotate
from tunesmith_transformers.training import checkpoint


class Part(Protocol):
    """Something trained, as an `Adapted` offers itself."""

    def state(self) -> dict[str, torch.Tensor]: ...

    def load_state(self, tensors: dict[str, torch.Tensor], /) -> None: ...

    def extra_state(self) -> dict[str, Any]: ...

    def load_extra_state(self, extra: dict[str, Any], /) -> None: ...


class Checkpoints:
    """Saves and restores between two steps; no random state, because each step seeds its own.

    Args:
        parts: what is trained, by name; the first is the policy, and the others have a file of their name.
        scheduler: of the learning rate.
        keep: checkpoints that are kept.
    """

    def __init__(self, context: Context, parts: Mapping[str, Part], optimizer: Any, scheduler: Any, keep: int) -> None:
        self.context = context
        self.parts = dict(parts)
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.keep = keep
        self.folder = context.stage_folder / "checkpoints"
        self.saved = 0

    def save(self, step: int, progress: Mapping[str, Any], pinned: Sequence[Path] = ()) -> None:
        """Commit the state after `step`, once; before the first step there is nothing to keep.

        Args:
            progress: the run's own counters, JSON-ready.
            pinned: checkpoints that stay whatever their age.
        """
        if step == self.saved:
            return
        self.context.sync()
        commit_folder(self.folder / f"step-{step:06d}", lambda folder: self._write(folder, step, progress))
        self.saved = step
        rotate(self.folder, self.keep, pinned)

    def restore(self) -> tuple[int, dict[str, Any]]:
        """The newest good checkpoint's step and counters, its tensors put back; 0 and none without one.

        Raises:
            DataError: it belongs to another run.
        """
        folder = newest_good(self.folder, self.context.reporter.warn) if self.context.resume else None
        if folder is None:
            return 0, {}
        checkpoint.check_identity(folder, self.context.identity)
        self.context.reporter.say(f"going on from {folder.name}")
        content = checkpoint.read_state(folder)
        self.put_back(folder)
        checkpoint.load_optimizer(folder, self.optimizer)
        self.scheduler.load_state_dict(content["scheduler"])
        self.saved = int(content["step"])
        return self.saved, dict(content["progress"])

    def put_back(self, folder: Path) -> None:
        """What is trained, as a checkpoint holds it."""
        extra = checkpoint.read_state(folder)["parts"]
        for place, (name, part) in enumerate(self.parts.items()):
            part.load_state(checkpoint.read_tensors(folder / _file(name, place)))
            part.load_extra_state(extra[name])

    def _write(self, folder: Path, step: int, progress: Mapping[str, Any]) -> None:
        optimizer, rest = checkpoint.flatten_optimizer(self.optimizer.state_dict())
        for place, (name, part) in enumerate(self.parts.items()):
            checkpoint.write_tensors(folder / _file(name, place), part.state())
        checkpoint.write_tensors(folder / checkpoint.OPTIMIZER, optimizer)
        content = {
            "identity": dict(self.context.identity),
            "step": step,
            "progress": dict(progress),
            "parts": {name: part.extra_state() for name, part in self.parts.items()},
            "optimizer": rest,
            "scheduler": self.scheduler.state_dict(),
        }
        (folder / checkpoint.STATE).write_text(json.dumps(content) + "\n", encoding="utf-8")


def _file(name: str, place: int) -> str:
    return checkpoint.MODEL if place == 0 else f"{name}.safetensors"
