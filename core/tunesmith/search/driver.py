"""Running a search: each trial is an ordinary run in the search's folder, and can be gone on with like any other."""

from __future__ import annotations

import copy
import json
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tunesmith.assign import assign
from tunesmith.context import Context, Reporter
from tunesmith.errors import DataError, DiskError, LockedError, MemoryExhausted, RecipeError, Stopped, TunesmithError
from tunesmith.folder import RunFolder, check_writable
from tunesmith.guard import guarded
from tunesmith.plan import Plan, Use, make_plan
from tunesmith.planner import Planner
from tunesmith.recipe import Recipe, check_settings, expand
from tunesmith.registry import Registry
from tunesmith.run import Run, differences, resume, start
from tunesmith.search.result import Search, TrialResult, shown, write
from tunesmith.search.settings import SearchSettings
from tunesmith.search.space import Space, read_space
from tunesmith.search.study import Study, Trial
from tunesmith.search.watch import Pruned, Watch, signed
from tunesmith.shape import NOTES, problem
from tunesmith.store import write_file, write_json

IN_A_ROW = 3  # failures from the start after which a search gives up


@dataclass
class Work:
    """A planned search."""

    recipe: Recipe
    settings: SearchSettings
    searcher: Use
    space: Space
    folder: Path
    registry: Registry
    seed: int
    device: str
    stages: tuple[dict[str, Any], ...]
    """What every trial shares, and the first end of every range: a search goes on only while it stays the same."""
    watched: Watch = field(default_factory=Watch)

    @classmethod
    def plan(cls, recipe: Recipe, registry: Registry, folder: Path | None = None, trials: int | None = None) -> Work:
        """Check everything, the recipe at both ends of every range included.

        Args:
            folder: where the search is kept; default: `RECIPE-search` in the recipe's `[run] folder`.
            trials: as `[search] trials`.

        Raises:
            RecipeError: with file and line; nothing has been run.
            MissingError: no plugin offers the searcher.
        """
        table = recipe.tree.get("search")
        if not isinstance(table, dict):
            raise RecipeError(
                "the recipe has no [search]: nothing says what shall vary",
                where=recipe.where("search"),
                fix='Add [search] with use = "optuna", and [search.space] with a range for each key.',
            )
        own = {key: value for key, value in table.items() if key in SearchSettings.__dataclass_fields__}
        if trials is not None:
            own["trials"] = trials
        settings = check_settings(SearchSettings, own, recipe, ("search",))
        space = read_space(recipe, settings.space)
        rest = {key: value for key, value in table.items() if key not in SearchSettings.__dataclass_fields__}
        searcher = Planner(recipe, registry).use("searcher", {"use": "optuna", **rest}, ("search",))
        ends: list[dict[str, Any]] = [{one.key: one.ends[side] for one in space} for side in (0, 1)]
        plans = [make_plan(derived(recipe, registry, values, Path(), "trial"), registry) for values in ends]
        for plan in plans:
            if not plan.stages[-1].evaluators:
                raise RecipeError(
                    "nothing measures a trial: [[evaluate]] is missing",
                    where=recipe.where("evaluate"),
                    fix='Add [[evaluate]] with use = "perplexity", for example.',
                )
        stem = recipe.path.stem if recipe.path else "recipe"
        place = folder or plans[0].run.folder / f"{stem}-search"
        check_writable(place)
        run = plans[0].run
        stages = tuple({**stage.describe(), "notes": []} for stage in plans[0].stages)
        return cls(recipe, settings, searcher, space, place, registry, run.seed, run.device, stages)

    def execute(self, reporter: Reporter, say: Callable[[str], None]) -> Search:
        """Try values until there are as many trials as asked for; what an earlier call tried counts.

        Raises:
            Stopped: a signal came; the trial that was under way is gone on with by the same command.
            DataError: the folder holds another search, or the first trials all failed.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        held = RunFolder(self.folder)
        held.lock()
        try:
            self._check_same()
            self.registry.add(self.watched, name="search")
            study = self._study(reporter)
            while True:
                known = list(study.trials())
                begun = next((trial for trial in known if trial.outcome == "open"), None)
                if begun is None and len(known) >= self.settings.trials:
                    return self._written(study)
                trial = begun or study.ask()
                values = ", ".join(f"{key} = {shown(value)}" for key, value in trial.values.items())
                say(f"== trial {trial.number + 1} of {max(self.settings.trials, len(known))}: {values}")
                self._try(study, trial, reporter, say)
                self._written(study)
                self._give_up_early(study)
        finally:
            held.release()

    # --- one trial ----------------------------------------------------------------------------
    def _try(self, study: Study, trial: Trial, reporter: Reporter, say: Callable[[str], None]) -> None:
        self.watched.begin(study, trial.number, self.settings.measure)
        try:
            run = self._run(trial, reporter)
        except Pruned as pruned:
            say(str(pruned))
            self._note(trial, {"value": self.watched.shown})
            study.tell(trial.number, "pruned", self.watched.last)
        except Stopped as stopped:
            stopped.fix = "The same command goes on with this trial."  # not `resume`, which knows of no search
            raise
        except (DiskError, LockedError, MemoryExhausted) as limit:
            # the machine's, not the values': the trial stays open
            limit.fix = f"{limit.fix} The same command then goes on with this trial.".strip()
            raise
        except TunesmithError as error:
            say(f"failed: {error}")
            self._note(trial, {"error": str(error)})
            study.tell(trial.number, "failed", None)
        else:
            name, value, better = self._value(run)
            if value is None or not math.isfinite(value):
                self._note(trial, {"error": f"{name} is {value}"})
                study.tell(trial.number, "failed", None)
            else:
                self._note(trial, {"measure": name, "better": better, "value": value})
                study.tell(trial.number, "done", signed(value, better))
        finally:
            self.watched.end()
        if not self.settings.keep_checkpoints:
            for place in self._runs(trial.number):
                for kept in place.rglob("checkpoints"):
                    shutil.rmtree(kept)

    def _run(self, trial: Trial, reporter: Reporter) -> Run:
        """Run a trial, or go on with it where it was cut short."""
        for place in reversed(self._runs(trial.number)):
            if not RunFolder.begun(place):  # it was killed before anything could be gone on with
                shutil.rmtree(place)
            elif RunFolder.open(place).status != "done":
                return resume(place, self.registry, reporter)
        plan = self.plan_of(trial.values, f"trial-{trial.number + 1:04d}")
        return start(plan, self.registry, reporter, base=self.folder / "runs")

    def plan_of(self, values: Mapping[str, Any], name: str) -> Plan:
        """The plan of the recipe with these values."""
        return make_plan(derived(self.recipe, self.registry, values, self.folder / "runs", name), self.registry)

    def _value(self, run: Run) -> tuple[str, float | None, str]:
        measures = list(run.results.values())[-1].after.get("measures", {})
        name = self.settings.measure or next(iter(measures), "")
        if name not in measures:
            raise RecipeError(
                f"[search] measure = {name!r} is not measured",
                where=self.recipe.where("search", "measure"),
                fix=f"There are: {', '.join(measures) or 'none'}.",
            )
        return name, measures[name]["value"], measures[name]["better"]

    # --- the folder ---------------------------------------------------------------------------
    def _study(self, reporter: Reporter) -> Study:
        context = Context(
            seed=self.seed,
            device=self.device,
            folder=self.recipe.folder,
            stage_folder=self.folder,
            reporter=reporter,
        )
        with guarded(self.searcher):
            return self.searcher.call(self.space, self.searcher.settings, context)

    def _runs(self, number: int) -> list[Path]:
        return sorted((self.folder / "runs").glob(f"trial-{number + 1:04d}-*"))

    def _notes(self) -> dict[str, Any]:
        path = self.folder / "notes.json"
        if said := problem(path, NOTES):
            raise DataError(
                f"the notes of this search are damaged: {said}",
                where=str(path),
                fix="Restore the file from a copy, or name another folder with --to.",
            )
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def _keep(self, changes: Mapping[str, Any]) -> None:
        write_json(self.folder / "notes.json", {**self._notes(), **changes})

    def _note(self, trial: Trial, changes: Mapping[str, Any]) -> None:
        trials = self._notes().get("trials", {})
        self._keep({"trials": {**trials, str(trial.number): {**trials.get(str(trial.number), {}), **changes}}})

    def _check_same(self) -> None:
        """A folder holds one search: its space, the recipe and the searcher must be what they were.

        Raises:
            DataError: one differs; the differences are named.
        """
        space = json.loads(json.dumps([[one.key, repr(one)] for one in self.space]))
        shared = {
            "stages": {stage["name"]: stage for stage in self.stages},
            "searcher": replace(self.searcher, notes=()).describe(),
            "measure": self.settings.measure,
        }
        shared = json.loads(json.dumps(shared, default=str))
        notes = self._notes()
        if "space" not in notes:
            self._keep({"space": space, "shared": shared})
        elif notes["space"] != space:
            raise DataError(
                f"{self.folder} holds a search over another space",
                where=str(self.folder),
                fix="Name another folder with --to, or put [search.space] back as it was.",
            )
        elif notes.get("shared") != shared:
            raise DataError(
                f"{self.folder} holds a search of another recipe: its trials cannot be compared with these",
                where=str(self.folder),
                details=differences(notes.get("shared") or {}, shared),
                fix="Name another folder with --to, or put the recipe back as it was.",
            )

    def _written(self, study: Study) -> Search:
        told = self._notes().get("trials", {})
        results = tuple(
            TrialResult(
                number=trial.number,
                values=dict(trial.values),
                outcome=trial.outcome,
                value=told.get(str(trial.number), {}).get("value"),
                run=str(places[-1]) if (places := self._runs(trial.number)) else None,
                error=told.get(str(trial.number), {}).get("error"),
            )
            for trial in study.trials()
        )
        measured: dict[str, Any] = next((one for one in told.values() if "measure" in one), {})
        search = Search(
            recipe=str(self.recipe.path or ""),
            folder=self.folder,
            measure=measured.get("measure") or self.settings.measure or "",
            better=measured.get("better", "lower"),
            trials=results,
            importances=dict(study.importances()),
            best_recipe=self.recipe.folder / f"{self.recipe.path.stem if self.recipe.path else 'recipe'}-best.toml",
        )
        write(search)
        if search.best:
            values = derived(self.recipe, self.registry, search.best.values, None, None)
            write_file(search.best_recipe, values.to_toml())
        return search

    def _give_up_early(self, study: Study) -> None:
        trials = list(study.trials())
        if len(trials) == IN_A_ROW and all(trial.outcome == "failed" for trial in trials):
            raise DataError(
                f"the first {IN_A_ROW} trials all failed",
                where=str(self.folder),
                details=[str(note.get("error")) for note in self._notes().get("trials", {}).values()],
                fix="Mend the recipe or its ranges; `tunesmith run` shows what is wrong.",
            )


def derived(
    recipe: Recipe, registry: Registry, values: Mapping[str, Any], folder: Path | None, name: str | None
) -> Recipe:
    """The recipe with these values and without [search].

    Args:
        folder, name: as in `[run]`; None leaves them.
    """
    made = copy.deepcopy(recipe)
    made.tree.pop("search", None)
    made.tree.pop("compare", None)
    expand(made, registry)
    for key, value in values.items():
        assign(made, f"{key}={json.dumps(value)}")
        made.origins[tuple(int(part) if part.isdigit() else part for part in key.split("."))] = recipe.where(
            "search", "space", *key.split(".")
        )
    run = made.tree.setdefault("run", {})
    if isinstance(run, dict):
        run |= {key: str(value) for key, value in (("folder", folder), ("name", name)) if value is not None}
    return made
