"""Hook specifications: what a plugin may implement.

A plugin is a module (the entry point of group `tunesmith` names it) with functions marked
`@tunesmith.hookimpl`. Hooks that yield records are generators or return an iterable; they must be
cheap and must not import torch. Observers are told what happens; their results are ignored.
"""

# Implementations may accept fewer arguments than a specification names, so the names are the contract.
from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

from tunesmith.errors import TunesmithError, nearest

if TYPE_CHECKING:
    from tunesmith.plan import Plan
    from tunesmith.results import Measure
    from tunesmith.spec import (
        Adapter,
        Evaluator,
        Exporter,
        Launcher,
        Loader,
        Model,
        Preset,
        Quantizer,
        Searcher,
        Step,
        Trainer,
    )

PROJECT = "tunesmith"

#: The level of this contract. A plugin that needs a newer one sets `tunesmith_api_level` in its module.
API_LEVEL = 1

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class ComponentHooks:
    """Hooks that yield records. Since API level 1."""

    @hookspec
    def tunesmith_loaders(self) -> Iterable[Loader]:
        """Yield data loaders: `factory(settings, context) -> Dataset`."""
        return ()

    @hookspec
    def tunesmith_steps(self) -> Iterable[Step]:
        """Yield steps of data preparation: `factory(settings, context) -> callable` over `Row` objects."""
        return ()

    @hookspec
    def tunesmith_models(self) -> Iterable[Model]:
        """Yield model sources: `factory(settings, context, head, load_options) -> ModelHandle`."""
        return ()

    @hookspec
    def tunesmith_quantizers(self) -> Iterable[Quantizer]:
        """Yield quantizers: `factory(settings, context) -> Quantization`."""
        return ()

    @hookspec
    def tunesmith_adapters(self) -> Iterable[Adapter]:
        """Yield adapters: `factory(handle, settings, context) -> Adapted`, or a plain module."""
        return ()

    @hookspec
    def tunesmith_trainers(self) -> Iterable[Trainer]:
        """Yield trainers: `factory(models, data, settings, context) -> TrainResult`."""
        return ()

    @hookspec
    def tunesmith_evaluators(self) -> Iterable[Evaluator]:
        """Yield evaluators: `factory(handle, data, settings, context) -> Evaluation`."""
        return ()

    @hookspec
    def tunesmith_exporters(self) -> Iterable[Exporter]:
        """Yield exporters: `factory(artifact, settings, context) -> Path`."""
        return ()

    @hookspec
    def tunesmith_launchers(self) -> Iterable[Launcher]:
        """Yield launchers: `factory(plan, settings, context) -> int`."""
        return ()

    @hookspec
    def tunesmith_presets(self) -> Iterable[Preset]:
        """Yield presets: `factory(settings) -> dict`, a partial recipe."""
        return ()

    @hookspec
    def tunesmith_searchers(self) -> Iterable[Searcher]:
        """Yield searchers: `factory(space, settings, context) -> Study`, which proposes values of settings."""
        return ()


class ObserverHooks:
    """Hooks that observe. Results are ignored; an exception disables the observer for the run.

    Since API level 1.
    """

    @hookspec
    def tunesmith_run_started(self, plan: Plan) -> None:
        """A run begins.

        :param plan: what is about to be executed.
        """

    @hookspec
    def tunesmith_step(self, stage: str, step: int, metrics: Mapping[str, float]) -> None:
        """A training step was logged.

        :param stage: the stage's name.
        :param step: optimizer steps done so far, from 1.
        :param metrics: loss, learning rate and what else the trainer logs.
        """

    @hookspec
    def tunesmith_evaluated(self, stage: str, step: int, measures: Mapping[str, Measure]) -> None:
        """The held-out rows were measured between two steps of training.

        :param stage: the stage's name.
        :param step: optimizer steps done so far, from 1.
        :param measures: what was measured, by name.
        """

    @hookspec
    def tunesmith_stage_finished(self, stage: str, artifact: Path) -> None:
        """A stage committed its artifact.

        :param stage: the stage's name.
        :param artifact: the folder that holds it.
        """

    @hookspec
    def tunesmith_run_failed(self, stage: str, error: BaseException) -> None:
        """A run ended by an error or a signal.

        :param stage: the stage it happened in.
        :param error: what was raised.
        """

    @hookspec
    def tunesmith_run_finished(self, run: Any) -> None:
        """A run reached its end and everything is committed.

        :param run: the finished run: `folder`, `results`, `plan`.
        """


#: hook name -> record class name, for the hooks that yield records
RECORD_HOOKS: dict[str, str] = {
    "tunesmith_loaders": "loader",
    "tunesmith_steps": "step",
    "tunesmith_models": "model",
    "tunesmith_quantizers": "quantizer",
    "tunesmith_adapters": "adapter",
    "tunesmith_trainers": "trainer",
    "tunesmith_evaluators": "evaluator",
    "tunesmith_exporters": "exporter",
    "tunesmith_launchers": "launcher",
    "tunesmith_presets": "preset",
    "tunesmith_searchers": "searcher",
}

OBSERVER_HOOKS: tuple[str, ...] = tuple(name for name in vars(ObserverHooks) if name.startswith("tunesmith_"))


def new_manager() -> pluggy.PluginManager:
    """A pluggy manager that knows the specifications and no plugin."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(ComponentHooks)
    manager.add_hookspecs(ObserverHooks)
    return manager


def check_hooks(module: Any) -> None:
    """Refuse functions that look like hooks but are not in the specification, or are not marked.

    Raises:
        TunesmithError: naming the function.
    """
    known = [*RECORD_HOOKS, *OBSERVER_HOOKS]
    found = 0
    for name in dir(module):
        value = getattr(module, name, None)
        marked = hasattr(value, f"{PROJECT}_impl")
        if marked and name in known:  # the usual case; a search for likely names would cost more than the import
            found += 1
            continue
        near = nearest(name, known) if name.startswith("tunesmith_") else None
        if marked and name not in known:
            hint = f"did you mean {near}?" if near else f"there are: {', '.join(known)}"
            raise TunesmithError(f"{name} is not a hook of tunesmith; {hint}")
        if not marked and near and (inspect.isfunction(value) or inspect.ismethod(value)):
            hint = "" if name == near else f" and is not a hook; did you mean {near}?"
            raise TunesmithError(f"{name} is not marked with @tunesmith.hookimpl{hint}")
        found += marked
    if not found:
        raise TunesmithError("implements no hook: mark functions with @tunesmith.hookimpl")
