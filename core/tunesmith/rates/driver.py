"""Running a range test: a stage's trainer takes a few steps from its ordinary start, at rates that rise."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tunesmith.context import Context, Reporter
from tunesmith.errors import NumericalError, PluginError, RecipeError, UsageError
from tunesmith.estimating import Unknown, check_fits, estimate
from tunesmith.folder import LOCK, RunFolder, check_writable
from tunesmith.guard import guarded, seed_everything
from tunesmith.oversight import untouched
from tunesmith.plan import SINGLE, Plan, StagePlan
from tunesmith.rates.curve import STEPS, read, rising
from tunesmith.rates.recorder import MEND, Ended, Recorder, named
from tunesmith.rates.result import NAME, RangeTest, write
from tunesmith.registry import Registry
from tunesmith.rehearsal import shortened
from tunesmith.roles import load_roles
from tunesmith.run import earlier
from tunesmith.spec import Settings, Trainer
from tunesmith.stage import load_data
from tunesmith.store import STAGING, clean_staging


@dataclass
class Work:
    """A planned test.

    Args:
        settings: the trainer's, for the steps of the test alone.
        artifacts: what the stages that this one starts from have kept.
    """

    plan: Plan
    stage: StagePlan
    registry: Registry
    rates: list[float]
    current: float
    settings: Settings
    artifacts: Mapping[str, Path]
    folder: Path

    @classmethod
    def of(
        cls,
        plan: Plan,
        stage: StagePlan,
        registry: Registry,
        low: float,
        high: float,
        steps: int,
        to: Path | None = None,
    ) -> Work:
        """Check everything that can be checked before a model is loaded.

        Args:
            low, high: learning rates of the first and of the last step.
            to: where the test is kept; default: `RECIPE-find-lr` in the recipe's `[run] folder`.

        Raises:
            UsageError: the rates or steps make no range, the trainer follows no rates that it is given, an earlier
                stage is missing, or the folder holds something else.
            RecipeError: the recipe's own rate cannot be multiplied.
            DiskError: the folder cannot be made.
        """
        if not (0 < low < high < math.inf):
            raise UsageError(
                f"the learning rate cannot rise from {low:g} to {high:g}",
                fix="Give two rates above 0, the lower one as --low and the higher one as --high.",
            )
        if steps < STEPS:
            raise UsageError(
                f"{steps} steps are too few to tell a fall of the loss from the noise between batches",
                fix=f"Take --steps {STEPS} or more.",
            )
        current = _current(plan, stage)
        settings = shortened(stage, steps)
        stem = plan.recipe.path.stem if plan.recipe.path else "recipe"
        ending = NAME if stage.name == SINGLE else f"{stage.name}-{NAME}"
        place = to or plan.run.folder / f"{stem}-{ending}"
        check_writable(place, "folder", "Choose another one with --to.")
        _check_free(place)
        stage = replace(stage, evaluators=(), exporters=())
        artifacts = _artifacts(plan, stage)
        return cls(plan, stage, registry, rising(low, high, steps), current, settings, artifacts, place)

    def execute(self, reporter: Reporter) -> RangeTest:
        """Take the steps until the losses diverge or the range ends, and read them.

        What an earlier test left in the folder is replaced.

        Raises:
            NumericalError: the very first loss is not finite.
            PluginError: the trainer does not do what its record says.
            TunesmithError: as a run.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        held = RunFolder(self.folder)
        held.lock()
        try:
            clean_staging(self.folder)  # of a test that was killed
            for path in self.folder.glob(f"{NAME}.*"):
                path.unlink()
            heard = Recorder(reporter, self.stage.trainer, self.rates, self.folder / f"{NAME}.jsonl")
            self._train(heard, reporter)
            test = self._found(heard)
            write(test)
            return test
        finally:
            held.release()

    def factor(self, step: int) -> float:
        """What the recipe's rates are multiplied with at a step, from 0; all of them keep their proportions."""
        return self.rates[min(step, len(self.rates) - 1)] / self.current

    def _train(self, heard: Recorder, reporter: Reporter) -> None:
        plan, stage, use = self.plan, self.stage, self.stage.trainer
        if plan.run.threads:
            import torch

            torch.set_num_threads(plan.run.threads)
        with tempfile.TemporaryDirectory(prefix=STAGING, dir=self.folder) as place:
            context = Context(
                seed=(plan.run.seed + plan.run.repetition) % 2**32,
                repetition=plan.run.repetition,
                device=plan.run.device,
                folder=plan.recipe.folder,
                stage_folder=Path(place),
                reporter=reporter,
                max_lost_rows=plan.run.max_lost_rows,
                registry=self.registry,
            )
            foreseen = estimate(plan, stage, context)
            if not isinstance(foreseen, Unknown) and (warning := check_fits(foreseen, stage, plan)):
                reporter.warn(warning)
            reporter.phase("load data")
            data = load_data(stage, context.with_(seed=plan.run.seed))
            reporter.phase("load model")
            roles = load_roles(stage, data, self.artifacts, self.registry, context)
            reporter.phase("range test")
            within = context.with_(reporter=heard, schedule=self.factor)
            seed_everything(context.seed)
            try:
                with untouched(use, data), guarded(use):
                    use.call(roles.models, data, self.settings, within)
            except Ended:
                return
            except NumericalError:
                if not heard.losses:  # it is not the rate
                    raise
                heard.diverged = self.rates[len(heard.losses)]
                return
        raise PluginError(
            f"{named(use)} ended after it had reported the loss of {len(heard.losses)} of {len(self.rates)} steps",
            fix=MEND,
        )

    def _found(self, heard: Recorder) -> RangeTest:
        rates = self.rates[: len(heard.losses)]
        name = self.stage.trainer.component.name
        return RangeTest(
            recipe=str(self.plan.recipe.path or ""),
            folder=self.folder,
            stage=self.stage.name,
            trainer=name,
            setting=".".join(_setting(self.stage)),
            current=self.current,
            low=self.rates[0],
            high=self.rates[-1],
            steps=len(self.rates),
            rates=rates,
            losses=heard.losses,
            diverged=heard.diverged,
            reading=read(rates, heard.losses, len(self.rates), diverged=heard.diverged is not None),
        )


# --- what is checked before -----------------------------------------------------------------------
def _setting(stage: StagePlan) -> tuple[str, ...]:
    """The path of the setting that holds the learning rate."""
    assert isinstance(stage.trainer.component, Trainer)
    own = ("trainer", stage.trainer.component.rate)
    return own if stage.name == SINGLE else ("stages", stage.name, *own)


def _current(plan: Plan, stage: StagePlan) -> float:
    """The learning rate that the recipe has."""
    trainer, settings = stage.trainer.component, stage.trainer.settings
    assert isinstance(trainer, Trainer)
    if not trainer.rate:
        raise UsageError(
            f"trainer {trainer.name!r} follows no learning rates that it is given by step: its record names no `rate`",
            fix="Choose its rate with `tunesmith search RECIPE`, which runs the recipe at several.",
        )
    path = _setting(stage)
    arguments = getattr(settings, "arguments", None) or {}
    if trainer.rate in arguments:
        raise RecipeError(
            f"[trainer.arguments] has {trainer.rate} too, and it wins over [trainer] {trainer.rate}",
            where=plan.recipe.where(*path[:-1], "arguments", trainer.rate),
            fix=f"Write {trainer.rate} in [trainer] alone.",
        )
    current = getattr(settings, trainer.rate)
    if not current:
        raise RecipeError(
            f"{'.'.join(path)} = 0 cannot be multiplied: nothing says how the rates of several groups relate",
            where=plan.recipe.where(*path),
            fix=f"Set any rate above 0, as in --set {'.'.join(path)}=1e-4: its height does not matter.",
        )
    return float(current)


def _artifacts(plan: Plan, stage: StagePlan) -> dict[str, Path]:
    """What the stages that this one starts from have kept in the newest run that finished them as they are now."""
    found = {}
    for name in stage.needs:
        kept = earlier(plan.run.folder, plan.stage(name))
        if kept is None:
            raise UsageError(
                f"stage {stage.name!r} starts from stage {name!r}, which no run in {plan.run.folder} has finished as "
                "the recipe has it",
                fix="Run the recipe first: what it keeps of that stage is then taken.",
            )
        found[name] = kept
    return found


def _check_free(place: Path) -> None:
    """Refuse a folder with files of somebody else, some of which might be overwritten.

    Raises:
        UsageError: it holds more than a range test.
    """
    names = [path.name for path in place.iterdir()] if place.is_dir() else []
    others = [name for name in names if name != LOCK and not name.startswith((f"{NAME}.", STAGING))]
    if others:
        raise UsageError(
            f"{place} holds other files: {', '.join(sorted(others)[:3])}",
            where=str(place),
            fix="Give an empty or a new folder with --to.",
        )
