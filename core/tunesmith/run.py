"""Executing a plan: the run folder, signals, observers, and what is left when something goes wrong."""

from __future__ import annotations

import shutil
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

from tunesmith import shape
from tunesmith.artifact import changed_files
from tunesmith.context import Context, PlainReporter, Reporter, StopFlag
from tunesmith.errors import DataError, PluginError, RecipeError, Stopped, TunesmithError
from tunesmith.estimating import Unknown, check_fits, estimate
from tunesmith.folder import MANIFEST, RECIPE, STATE, RunFolder, check_writable, environment, now
from tunesmith.guard import limit_of
from tunesmith.ledger import LEDGER, Ledger
from tunesmith.plan import Plan, StagePlan, make_plan
from tunesmith.recipe import Recipe, read
from tunesmith.recorder import Recorder
from tunesmith.registry import Registry
from tunesmith.report import REPORT
from tunesmith.report import write as write_report
from tunesmith.stage import RESULT, StageResult, StageRun, reusable, stage_folder
from tunesmith.store import DIGESTS, clean_staging, commit_folder, write_file, write_json

ERROR = "error.txt"  # the traceback of what a run failed by
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GO_ON = "`tunesmith resume RUN` goes on."


@dataclass
class Run:
    """A finished run."""

    folder: Path
    plan: Plan
    results: dict[str, StageResult] = field(default_factory=dict)


def start(
    plan: Plan, registry: Registry, reporter: Reporter | None = None, *, base: Path | None = None, fresh: bool = False
) -> Run:
    """Execute a plan in a new run folder.

    Args:
        base: where run folders are made; default: the recipe's `[run] folder`.
        fresh: make every stage anew, even when an earlier run holds the same one.

    Raises:
        TunesmithError: what went wrong; the run folder says so too and is never marked done.
    """
    base = base or plan.run.folder
    check_writable(base)
    name = plan.run.name or (plan.recipe.path.stem if plan.recipe.path else "run")
    folder = RunFolder.create(base, name)
    try:
        folder.write_recipe(plan.recipe.to_toml())
        folder.write_manifest(
            {
                "created": now(),
                "recipe": str(plan.recipe.path.resolve()) if plan.recipe.path else None,
                "recipe_folder": str(plan.recipe.folder),
                "plan": plan.describe(),
                "environment": environment(),
                **({"trusted_code": list(registry.trusted_code)} if registry.trusted_code else {}),
            }
        )
        reporter = reporter or PlainReporter()
        for held in folder.in_use_beside():
            reporter.say(f"{held}; this run is {folder.path.name}")
        return _execute(plan, registry, reporter, folder, resume=False, fresh=fresh)
    finally:
        folder.release()


def reopen(path: Path) -> tuple[RunFolder, Recipe]:
    """A run folder and its resolved recipe, whose relative paths start where they did.

    Raises:
        DataError: `path` is no run folder, or its manifest is damaged.
    """
    folder = RunFolder.open(path)
    recipe = read(path / RECIPE)
    try:
        recipe.base = Path(folder.manifest["recipe_folder"])
        [stage["name"] for stage in folder.manifest["plan"]["stages"]]
    except (KeyError, TypeError) as error:
        raise DataError(
            f"the manifest of run {path.name} is damaged", where=str(path / MANIFEST), fix="Start a new run."
        ) from error
    return folder, recipe


def resume(path: Path, registry: Registry, reporter: Reporter | None = None, *, other_versions: bool = False) -> Run:
    """Go on with an interrupted run where its newest good checkpoint is.

    Args:
        other_versions: go on with other versions of torch and the like, as `[run] other_versions` of the recipe.

    Raises:
        LockedError: it is still running.
        DataError: it is done, or `path` is no run folder.
        RecipeError: data, plugins or settings changed since; the differing stages are named.
    """
    folder, recipe = reopen(path)
    folder.lock()
    reporter = reporter or PlainReporter()
    try:
        if said := shape.problem(path / STATE, shape.RUN[STATE]):
            reporter.warn(f"{STATE} is damaged ({said}); going on by what is committed")
        if folder.state["status"] == "done":
            raise DataError(
                f"run {path.name} is done", where=str(path), fix=f"tunesmith evaluate {path} measures it again."
            )
        plan = make_plan(recipe, registry)
        earlier = {stage["name"]: stage for stage in folder.manifest["plan"]["stages"]}
        for stage in plan.stages:
            then = earlier.get(stage.name, {})
            if then.get("fingerprint") != stage.fingerprint:
                raise RecipeError(
                    f"stage {stage.name!r} is not what it was when this run began",
                    where=str(path / RECIPE),
                    details=differences(then, stage.describe()),
                    fix="Put it back as it was, or start a new run.",
                )
        if not (other_versions or plan.run.other_versions):
            _check_versions(folder.manifest, plan, path)
        return _execute(plan, registry, reporter, folder, resume=True)
    finally:
        folder.release()


def _execute(
    plan: Plan, registry: Registry, reporter: Reporter, folder: RunFolder, *, resume: bool, fresh: bool = False
) -> Run:
    run = Run(folder.path, plan)
    stop = StopFlag()
    current = plan.stages[0].name
    clean_staging(folder.path)
    folder.set_state("running")
    folder.reserve()
    trusted = {"trusted_code": list(registry.trusted_code)} if registry.trusted_code else {}
    folder.event("resumed" if resume else "started", **trusted)
    if plan.run.threads:
        import torch

        torch.set_num_threads(plan.run.threads)
    try:
        with signals(stop, reporter):
            registry.notify("tunesmith_run_started", reporter.warn, plan=plan)
            for stage in plan.stages:
                current = stage.name
                run.results[stage.name] = _stage(run, stage, folder, registry, reporter, stop, resume, fresh)
                folder.write_results({name: result.describe() for name, result in run.results.items()})
            write_report(folder.path, "done")
            if stop.signal_number is not None:
                (folder.path / REPORT).unlink()  # it says that the run is done
                raise Stopped(stop.signal_number, "stopped in the report; what is committed stays", fix=GO_ON)
            folder.sync()  # before anything says that the run is done
            folder.use_reserve()
            folder.set_state("done")
            folder.event("done")
    except BaseException as error:
        if limit := limit_of(error, f"stage {current!r}"):
            limit.__cause__, error = error, limit
        if isinstance(error, Stopped) and stop.signal_number not in (None, error.signal_number):
            # an observer gave the run up, and a signal had come besides: whoever sent it waits for an answer
            error = Stopped(stop.signal_number, "stopped; what is committed stays", fix=GO_ON)
        _failed(folder, current, error, registry, reporter)
        raise error
    registry.notify("tunesmith_run_finished", reporter.warn, run=run)
    return run


def _stage(
    run: Run,
    stage: StagePlan,
    folder: RunFolder,
    registry: Registry,
    reporter: Reporter,
    stop: StopFlag,
    resume: bool,
    fresh: bool,
) -> StageResult:
    recorder = Recorder(reporter, folder, registry, stage.name)
    place = stage_folder(folder.path, stage.name)
    clean_staging(place)
    kept = reusable(stage, place) if resume else None
    if kept is None and len(run.plan.stages) > 1 and not fresh and not resume:
        kept = earlier(folder.path.parent, stage, besides=folder.path)
    if kept is not None:
        recorder.say(f"stage {stage.name}: unchanged, taken from {kept.parent}")
        result = StageResult.read(kept.parent, stage.name)
        if kept.parent != place:
            _copy(kept, place)
            result = replace(result, artifact=place / "artifact", reused=str(kept.parent))
            write_json(place / RESULT, result.describe())
        return result
    context = Context(
        seed=(run.plan.run.seed + run.plan.run.repetition) % 2**32,
        repetition=run.plan.run.repetition,
        device=run.plan.run.device,
        folder=run.plan.recipe.folder,
        reporter=recorder,
        stop=stop,
        ledger=Ledger(),
        max_lost_rows=run.plan.run.max_lost_rows,
        resume=resume,
        sync=folder.sync,
    )
    artifacts = {name: result.artifact for name, result in run.results.items()}
    for note in stage.notes():
        recorder.say(f"{note['kind']} {note['name']}: {note['note']}")
    foreseen = estimate(run.plan, stage, context)
    if not isinstance(foreseen, Unknown) and (warning := check_fits(foreseen, stage, run.plan)):
        recorder.warn(warning)
    result = StageRun(run.plan, stage, folder, registry, context, artifacts).execute()
    folder.event("stage-finished", stage=stage.name, artifact=str(result.artifact))
    registry.notify("tunesmith_stage_finished", recorder.warn, stage=stage.name, artifact=result.artifact)
    return result


def _copy(artifact: Path, place: Path) -> None:
    """Copy an artifact, and what became of its rows, into a stage's folder; a copy that is cut short is none."""

    def build(folder: Path) -> None:
        shutil.copytree(artifact, folder, dirs_exist_ok=True)
        (folder / DIGESTS).unlink()

    commit_folder(place / "artifact", build)
    if (ledger := artifact.parent / LEDGER).is_file():
        write_file(place / LEDGER, ledger.read_text(encoding="utf-8"))


def earlier(runs: Path, stage: StagePlan, besides: Path | None = None) -> Path | None:
    """The same stage's artifact in a run below `runs`, newest first.

    Args:
        besides: a run that does not count.
    """
    places = sorted(runs.glob(f"*/stages/{stage.name}"), reverse=True)
    return next((kept for place in places if place.parents[1] != besides and (kept := reusable(stage, place))), None)


def _failed(folder: RunFolder, stage: str, error: BaseException, registry: Registry, reporter: Reporter) -> None:
    """Leave a run folder that says what happened; a full disk must not hide the first error."""
    status = "stopped" if isinstance(error, Stopped) else "failed"
    code = error.exit_code if isinstance(error, TunesmithError) else 1
    last_words: list[Callable[[], None]] = [
        folder.use_reserve,
        lambda: folder.set_state(status, stage=stage, error=str(error), exit_code=code),
        lambda: folder.event(status, stage=stage, error=str(error)),
    ]
    if status == "failed":
        trace = "".join(traceback.format_exception(error))
        last_words.append(lambda: write_file(folder.path / ERROR, trace))
    for word in last_words:
        try:
            word()
        except (TunesmithError, OSError) as second:
            print(f"the run folder could not be updated either: {second}", file=sys.stderr)
    if isinstance(error, PluginError) and error.fix and (folder.path / ERROR).is_file():
        error.fix = f"{error.fix.rstrip('.')}, and it is in {folder.path / ERROR}."
    if isinstance(error, Exception):
        registry.notify("tunesmith_run_failed", reporter.warn, stage=stage, error=error)


def _check_versions(manifest: Mapping[str, Any], plan: Plan, path: Path) -> None:
    """Refuse to go on with other libraries or threads: the same steps would give other bits."""
    then = {**manifest.get("environment", {}).get("libraries", {}), "threads": manifest["plan"]["run"].get("threads")}
    now_ = {**environment()["libraries"], "threads": plan.describe()["run"].get("threads")}
    if then != now_:
        raise RecipeError(
            f"other versions are installed, or other threads set, than when run {path.name} began",
            where=str(path / MANIFEST),
            details=differences(then, now_),
            fix="Put that back, or add --other-versions: the result is then not the same to the bit.",
        )


def differences(then: Mapping[str, Any], now_: Mapping[str, Any], path: str = "") -> list[str]:
    """The leaves in which two descriptions of a stage differ."""
    found: list[str] = []
    for key in sorted({*then, *now_}):
        here = f"{path}.{key}" if path else str(key)
        if key == "notes":  # they decide nothing
            continue
        a, b = then.get(key), now_.get(key)
        if key == "files":
            found.extend(changed_files(a or {}, b or {}))
            continue
        if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
            a, b = dict(enumerate(a)), dict(enumerate(b))
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found.extend(differences(a, b, here))
        elif a != b and key != "fingerprint":
            found.append(f"{here}: was {a!r}, is {b!r}")
    return found or ["the seed, or an earlier stage"] * (path == "")


@contextmanager
def signals(stop: StopFlag, reporter: Reporter) -> Iterator[None]:
    """The first signal asks for a stop at the next safe place; the second one stops at once."""

    def handler(number: int, frame: FrameType | None) -> None:
        if stop:
            raise Stopped(number, "stopped at once; the newest checkpoint is safe", fix=GO_ON)
        stop.set(number)
        reporter.say("stopping after this step, and saving (once more to stop at once)")

    try:
        earlier = {number: signal.signal(number, handler) for number in SIGNALS}
    except ValueError:  # not in the main thread: the caller keeps its own signals
        yield
        return
    try:
        yield
    finally:
        for number, previous in earlier.items():
            signal.signal(number, previous)
