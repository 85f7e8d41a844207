"""What a run says, kept: in its folder, and with the observers."""

from __future__ import annotations

from collections.abc import Mapping

from tunesmith.context import Reporter
from tunesmith.folder import RunFolder
from tunesmith.registry import Registry


class Recorder:
    """A reporter that also keeps what it hears in the run folder and tells the observers."""

    def __init__(self, inner: Reporter, folder: RunFolder, registry: Registry, stage: str) -> None:
        self.inner = inner
        self.folder = folder
        self.registry = registry
        self.stage = stage

    def phase(self, name: str) -> None:
        self.inner.phase(name)

    def say(self, message: str) -> None:
        self.folder.event("note", stage=self.stage, message=message)
        self.inner.say(message)

    def warn(self, message: str) -> None:
        self.folder.event("warning", stage=self.stage, message=message)
        self.inner.warn(message)

    def progress(self, step: int, total: int, metrics: Mapping[str, float]) -> None:
        if "loss" in metrics:  # progress of evaluations is shown, not logged
            self.folder.metrics(self.stage, step, metrics)
            self.registry.notify("tunesmith_step", self.warn, stage=self.stage, step=step, metrics=dict(metrics))
        self.inner.progress(step, total, metrics)
