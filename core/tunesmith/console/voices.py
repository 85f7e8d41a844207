"""Who answers in a conversation: the model of one run, or the adapters of several on one base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tunesmith.adapted import ModelHandle
from tunesmith.adapters import Adapters
from tunesmith.artifact import check_base, load_artifact, load_base, read_line
from tunesmith.console.opened import artifact_of
from tunesmith.context import Context
from tunesmith.errors import PluginError, UsageError
from tunesmith.registry import Registry

#: What the model without any adapter is called.
BASE = "base"


class Voice:
    """One model that answers.

    Args:
        name: of the run, or `base`.
        handle: its model in evaluation mode, with its tokenizer.
    """

    def __init__(self, name: str, handle: ModelHandle) -> None:
        self.names: tuple[str, ...] = (name,)
        self.name = name
        self.handle = handle

    def switch(self, name: str) -> ModelHandle:
        """Let another one answer.

        Raises:
            UsageError: there is none of that name.
        """
        if name != self.name:
            raise UsageError(f"only {self.name!r} was loaded", fix="Begin with --adapter RUN to have others beside it.")
        return self.handle


class Voices(Voice):
    """The adapters of several runs on one base, and the base itself."""

    def __init__(self, adapters: Adapters, name: str) -> None:
        self.adapters = adapters
        super().__init__(name, self.switch(name))
        self.names = (*adapters.names, BASE)

    def switch(self, name: str) -> ModelHandle:
        adapted = self.adapters.switch(None if name == BASE else name)
        self.name = name
        self.handle = replace(adapted.handle, model=adapted.model)
        self.handle.model.eval()
        return self.handle


def open_voice(run: Path, artifact: Path, registry: Registry, context: Context, *, base: bool) -> Voice:
    """The model of a run, or its base.

    Raises:
        TunesmithError: it cannot be loaded, or it cannot answer.
    """
    if base:
        handle = load_base(read_line(artifact, registry), registry, context)
        check_base(artifact, handle)
    else:
        adapted = load_artifact(artifact, registry, context)
        handle = replace(adapted.handle, model=adapted.model)
    _check_answers(handle)
    if hasattr(handle.model, "eval"):
        handle.model.eval()
    return Voice(BASE if base else name_of(run), handle)


def open_voices(
    run: Path, artifact: Path, others: Sequence[str], registry: Registry, context: Context, *, base: bool
) -> Voices:
    """The model of a run with the adapters of other runs on the same base.

    Args:
        others: run or artifact folders, each also as NAME=FOLDER.

    Raises:
        UsageError: one has the name of the base.
        TunesmithError: one cannot be loaded, or belongs to another base.
    """
    own = name_of(run)
    if own == BASE:
        raise UsageError(
            f"{run} has the name by which the base model is called",
            fix=f"Begin with another run, and give this one a name: --adapter NAME={run}.",
        )
    named = [(name, artifact_of(path)) for name, path in map(named_run, others)]
    adapters = Adapters.open(artifact, registry, context, name=own)
    _check_answers(adapters.handle)
    for name, place in named:
        adapters.load(name, place, registry, context)
    return Voices(adapters, BASE if base else own)


def named_run(other: str) -> tuple[str, Path]:
    """The name and the folder that `[NAME=]RUN` means.

    Raises:
        UsageError: the name is that of the base.
    """
    name, equals, folder = other.partition("=")
    path = Path(folder if equals else other)
    name = name if equals else name_of(path)
    if name == BASE:
        raise UsageError(
            f"--adapter {other}: {BASE!r} is how the base model is called", fix=f"Write --adapter NAME={path}."
        )
    return name, path


def name_of(run: Path) -> str:
    """What a run or artifact folder is called in a conversation."""
    place = run.absolute()
    return place.parent.name if place.name == "artifact" else place.name


def _check_answers(handle: ModelHandle) -> None:
    if not hasattr(handle.model, "generate"):
        raise PluginError(f"the model {handle.source} has no `generate`; it cannot answer")
