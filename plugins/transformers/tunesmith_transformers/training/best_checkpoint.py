"""Measuring between steps, ending early, and the best checkpoint, for every trainer. No torch here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from tunesmith import Adapted, Context, Measure, RecipeError, Stopped
from tunesmith.errors import nearest
from tunesmith.store import checkpoint_step, damage
from tunesmith_transformers.training.settings import EvaluationSettings

#: Names of the measures that each evaluator of a stage may give, with `*`; none for one that does not say.
Measures = Mapping[str, Sequence[str]]


def check(
    settings: EvaluationSettings,
    evaluators: Sequence[str] | None,
    own: Sequence[str] = (),
    measures: Measures | None = None,
) -> None:
    """Refuse what cannot be measured, when a plan is made.

    Args:
        evaluators: names of the stage's evaluators; None where they are not known.
        own: measures that the trainer has of its own.
        measures: those of the evaluators.

    Raises:
        RecipeError: naming the setting.
    """
    exclusive(settings, "eval_steps", "evals_per_epoch")
    if not settings.measures_between:
        given = {"early_stopping_patience": settings.early_stopping_patience is not None}
        given |= {"load_best_model_at_end": settings.load_best_model_at_end, "eval_use": bool(settings.eval_use)}
        for name in (name for name, is_given in given.items() if is_given):
            raise RecipeError(
                f"{name} is set, but nothing is measured between steps",
                fix="Set eval_steps or evals_per_epoch in [trainer]: how often the held-out rows are measured.",
                setting=(name,),
            )
        return
    if evaluators is None:
        return
    if not evaluators and not own:
        raise RecipeError(
            f"{_how_often(settings)}, but the recipe has no evaluator",
            fix='Add [[evaluate]] with use = "perplexity", or another one: it measures the held-out rows.',
        )
    for name in settings.eval_use:
        if name not in evaluators:
            raise RecipeError(
                f"eval_use names {name!r}, which is no evaluator of the recipe",
                fix=f"There are: {', '.join(evaluators) or 'none'}.",
                setting=("eval_use",),
            )
    _check_metric(settings, own, measures or {})


def _check_metric(settings: EvaluationSettings, own: Sequence[str], measures: Measures) -> None:
    """Refuse a measure that decides and that nothing gives, or nothing that runs between steps."""
    metric = settings.metric_for_best_model
    if not measures or not all(measures.values()) or metric in own or (metric is None and own):
        return
    if metric is None:  # the first measure decides
        givers, named = [next(iter(measures))], "the first measure decides which checkpoint is the best, and it"
    else:
        givers = [name for name, given in measures.items() if any(_gives(name, one, metric) for one in given)]
        named = f"metric_for_best_model = {metric!r}"
    if not givers:
        names = [*own, *(one for given in measures.values() for one in given)]
        near = nearest(str(metric), names)
        raise RecipeError(
            f"{named}, and no evaluator gives a measure of that name",
            fix=f"Did you mean {near!r}?" if near else f"There are: {', '.join(names)}.",
            setting=("metric_for_best_model",),
        )
    if settings.eval_use and not set(givers) & set(settings.eval_use):
        raise RecipeError(
            f"{named} is not measured between steps: eval_use leaves out {givers[0]!r}",
            fix=f"Add {givers[0]!r} to eval_use, or set metric_for_best_model to a measure of one that it names.",
            setting=("eval_use",),
        )


def _gives(evaluator: str, given: str, metric: str) -> bool:
    """Whether a measure has this name: alone, of one task, or after its evaluator's where two have one name."""
    return any(fnmatchcase(metric, name) for name in (given, f"{given}/*", f"{evaluator}/{given}"))


def check_saving(settings: Any) -> None:
    """Refuse two answers to how often a checkpoint is made.

    Raises:
        RecipeError: both save_steps and saves_per_epoch are set.
    """
    exclusive(settings, "save_steps", "saves_per_epoch")


def exclusive(settings: Any, one: str, other: str) -> None:
    """Refuse two settings that say the same thing in two ways.

    Raises:
        RecipeError: both are set.
    """
    if getattr(settings, one) is not None and getattr(settings, other) is not None:
        raise RecipeError(
            f"{one} and {other} both say how often", fix=f"Leave {one} or {other} out of [trainer].", setting=(other,)
        )


def falls_on(step: int, times: int, steps_per_epoch: float) -> bool:
    """Whether something that happens so many times an epoch, evenly spread, happens after `step`.

    Every time falls on the first step at or after its moment; those that fall on one step happen once.
    """
    return math.floor(step * times / steps_per_epoch + 1e-9) > math.floor((step - 1) * times / steps_per_epoch + 1e-9)


def _how_often(settings: EvaluationSettings) -> str:
    if settings.eval_steps is not None:
        return f"eval_steps = {settings.eval_steps}"
    return f"evals_per_epoch = {settings.evals_per_epoch}"


class Best:
    """Follows one measure over the steps of a training.

    Args:
        own: measures that the trainer has of its own, by name, with their directions; the first is the default.
    """

    def __init__(
        self, settings: EvaluationSettings, context: Context, own: Mapping[str, Measure] | None = None
    ) -> None:
        self.settings = settings
        self.context = context
        self.step: int | None = None  # of the best measurement
        self.value = math.nan
        self.measured = 0  # the step of the last one
        self.waited = 0  # measurements since the best
        self.ended: int | None = None  # the step at which training ended early
        self.curves: dict[str, list[list[float]]] = {}  # name: [step, value]
        self.steps_per_epoch = 1.0  # set by the trainer before the first step
        self.metric, self.higher = "", False
        if settings.measures_between:
            self._choose({**(own or {}), **(context.held_out.before if context.held_out else {})})

    def _choose(self, known: Mapping[str, Measure]) -> None:
        wanted = self.settings.metric_for_best_model
        if not known:
            raise RecipeError(
                f"{_how_often(self.settings)}, but the recipe has no evaluator",
                fix='Add [[evaluate]] with use = "perplexity", or another one.',
            )
        self.metric = wanted if wanted is not None else next(iter(known))
        if self.metric not in known:
            near = nearest(self.metric, list(known))
            raise RecipeError(
                f"metric_for_best_model = {self.metric!r}, and no evaluator gives a measure of that name",
                fix=f"Did you mean {near!r}?" if near else f"There are: {', '.join(known)}.",
            )
        told = self.settings.greater_is_better
        self.higher = told if told is not None else known[self.metric].better == "higher"

    def due(self, step: int, total: int) -> bool:
        """Whether the held-out rows are measured after `step`: as often as the settings say, and at the end."""
        if not self.settings.measures_between or step <= self.measured:
            return False
        every, times = self.settings.eval_steps, self.settings.evals_per_epoch
        here = step % every == 0 if every is not None else falls_on(step, times or 1, self.steps_per_epoch)
        return here or step >= total

    def measure(self, step: int, adapted: Adapted, own: Mapping[str, Measure] | None = None) -> bool:
        """Measure after `step`; whether it is the best so far. `ended` is set where patience is at its end.

        A signal during it leaves the step unmeasured and the stop flag set; an observer that raises `Stopped` sets it.

        Raises:
            RecipeError: the measure that decides is not among those found.
        """
        held_out = self.context.held_out
        try:
            found = {**(own or {}), **(held_out.measure(adapted, self.settings.eval_use) if held_out else {})}
        except Stopped as signal:
            self.context.stop.set(signal.signal_number)
            return False
        if self.metric not in found:
            raise RecipeError(
                f"metric_for_best_model = {self.metric!r} is not measured between steps",
                fix=f"Name its evaluator in eval_use, or one of: {', '.join(found)}.",
            )
        self.measured = step
        for name, measure in found.items():
            self.curves.setdefault(name, []).append([step, measure.value])
        value = found[self.metric].value
        ahead = self._ahead(value)
        better = ahead > 0
        # as in Transformers: the very best is kept, and patience asks for more
        self.waited = 0 if ahead > self.settings.early_stopping_threshold else self.waited + 1
        if better:
            self.step, self.value = step, value
        self._say(step, found, better)
        try:
            if held_out:
                held_out.report(step, found)
        except Stopped as signal:
            self.context.stop.set(signal.signal_number)
        patience = self.settings.early_stopping_patience
        if patience is not None and self.waited >= patience:
            self.ended = step
            self.context.reporter.say(
                f"training ends early at step {step}: no improvement of {self.metric} in {self.waited} measurements"
            )
        return better

    def _ahead(self, value: float) -> float:
        """By how much a value is better than the best so far, in its own unit."""
        if not math.isfinite(value):
            return -math.inf
        if self.step is None:
            return math.inf
        return value - self.value if self.higher else self.value - value

    def _say(self, step: int, found: Mapping[str, Measure], better: bool) -> None:
        figures = ", ".join(f"{name} {measure.value:.4g}" for name, measure in found.items())
        told = "the best so far" if better else f"the best is {self.value:.4g} at step {self.step}"
        self.context.reporter.say(f"step {step}: {figures} ({self.metric}: {told})")

    # --- keeping ------------------------------------------------------------------------------
    def pinned(self, folder: Path) -> list[Path]:
        """The checkpoint that rotation must leave, below `folder`."""
        return [folder / f"step-{self.step:06d}"] if self.step is not None else []

    def chosen(self, folder: Path, last: int) -> Path | None:
        """The checkpoint to put back at the end; None when the last step is what is kept.

        Says so, and keeps it for the report.

        Args:
            folder: of the checkpoints.
            last: the step that training came to.
        """
        facts = self.context.facts
        if self.step is None:
            return None
        facts["best_step"], facts[f"best_{self.metric}"] = self.step, self.value
        facts["measured_between"] = self.curves
        if self.ended is not None:
            facts["ended_early"] = f"at step {self.ended}: no improvement of {self.metric} since step {self.step}"
        facts["kept_step"] = last
        if not self.settings.load_best_model_at_end or self.step == last:
            return None
        (best,) = self.pinned(folder)
        problems = damage(best)
        if problems:
            self.context.reporter.warn(
                f"the best checkpoint, {best.name}, is damaged ({'; '.join(problems[:3])}): step {last} is kept instead"
            )
            return None
        facts["kept_step"] = checkpoint_step(best)
        self.context.reporter.say(f"{best.name} is kept: {self.metric} {self.value:.4g} is the best of all")
        return best

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of it, as plain JSON data."""
        value = self.value if math.isfinite(self.value) else None
        names = ("step", "measured", "waited", "ended", "curves")
        return {**{name: getattr(self, name) for name in names}, "value": value}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Put back what `state` gave; nothing for a checkpoint without it."""
        for name, value in state.items():
            setattr(self, name, value if value is not None or name != "value" else math.nan)
