"""What of a PPO run is kept in a checkpoint, on the same store as every trainer's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunesmith import Adapted, Context
from tunesmith.store import commit_folder, newest_good, rotate
from tunesmith_ppo.values import Values
from tunesmith_transformers import checkpoint

VALUES = "values.safetensors"


class Checkpoints:
    """Saves and restores between two steps; no random state, because each step seeds its own.

    Args:
        scheduler: of the learning rate.
    """

    def __init__(
        self, context: Context, policy: Adapted, values: Values, optimizer: Any, scheduler: Any, keep: int
    ) -> None:
        self.context = context
        self.policy = policy
        self.values = values
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.keep = keep
        self.folder = context.stage_folder / "checkpoints"
        self.saved = 0

    def save(self, step: int, progress: Mapping[str, Any]) -> None:
        """Commit the state after `step`, once; before the first step there is nothing to keep.

        Args:
            progress: the run's own counters, JSON-ready.
        """
        if step == self.saved:
            return
        self.context.sync()
        commit_folder(self.folder / f"step-{step:06d}", lambda folder: self._write(folder, step, progress))
        self.saved = step
        rotate(self.folder, self.keep)

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
        self.policy.load_state(checkpoint.read_tensors(folder / checkpoint.MODEL))
        self.policy.load_extra_state(content["adapter"])
        self.values.load_state(checkpoint.read_tensors(folder / VALUES))
        self.values.load_extra_state(content["values"])
        checkpoint.load_optimizer(folder, self.optimizer)
        self.scheduler.load_state_dict(content["scheduler"])
        self.saved = int(content["step"])
        return self.saved, dict(content["progress"])

    def _write(self, folder: Path, step: int, progress: Mapping[str, Any]) -> None:
        optimizer, rest = checkpoint.flatten_optimizer(self.optimizer.state_dict())
        checkpoint.write_tensors(folder / checkpoint.MODEL, self.policy.state())
        checkpoint.write_tensors(folder / VALUES, self.values.state())
        checkpoint.write_tensors(folder / checkpoint.OPTIMIZER, optimizer)
        content = {
            "identity": dict(self.context.identity),
            "step": step,
            "progress": dict(progress),
            "adapter": self.policy.extra_state(),
            "values": self.values.extra_state(),
            "optimizer": rest,
            "scheduler": self.scheduler.state_dict(),
        }
        (folder / checkpoint.STATE).write_text(json.dumps(content) + "\n", encoding="utf-8")
