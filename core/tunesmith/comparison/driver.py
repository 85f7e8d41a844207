"""Running a comparison: everything is planned first, then each method runs in a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from tunesmith.comparison.candidates import Candidate, General, base_plan, candidates, check_shape, general_of
from tunesmith.comparison.job import Job
from tunesmith.comparison.page import NAME, write
from tunesmith.comparison.result import Comparison, Method, base_method, finished, read_general, unfinished
from tunesmith.comparison.settings import CompareSettings, entries, read_settings
from tunesmith.errors import DataError, Stopped, TunesmithError, UsageError
from tunesmith.folder import LOCK, RunFolder, check_writable, environment, now, parsed_file
from tunesmith.plan import Plan
from tunesmith.recipe import Recipe, read
from tunesmith.registry import Registry
from tunesmith.run import SIGNALS
from tunesmith.shape import problems
from tunesmith.store import write_file

JOBS = "jobs"
#: What is kept of the unadapted model.
MEASURED = {"measures", "general", "parameters", "memory", "seconds"}


def compare(
    recipe: Path | str,
    adapters: Sequence[str] = (),
    *,
    only: Sequence[str] = (),
    sets: Sequence[str] = (),
    folder: Path | str | None = None,
    disable: Sequence[str] = (),
    trusted_code: Sequence[str] = (),
    say: Callable[[str], None] | None = None,
) -> Comparison:
    """Train several adapters at an equal budget and measure each; what was finished before is taken from `folder`.

    Args:
        recipe: a recipe's file.
        adapters: what to compare, each as `lora rank=4`; default: the recipe's [compare].
        only: names of those to run; default: all.
        sets: changes of the recipe's keys, each as `compare.steps=40`.
        folder: where the runs and the tables are kept; default: `RECIPE-comparison` in the recipe's `[run] folder`.
        disable: plugins to leave out.
        trusted_code: models whose own code may be run, as `OWNER/NAME@COMMIT`.
        say: where progress goes, a line a call; default: stderr.

    Raises:
        RecipeError: an entry is wrong; nothing has been run.
        UsageError: `folder` holds something else; nothing has been run.
        Stopped: a signal came; finished methods are kept.
        TunesmithError: the unadapted model cannot be measured.
    """
    read_recipe = read(Path(recipe), sets)
    registry = Registry.discover(disable=disable, files=read_recipe.plugin_files, trusted_code=trusted_code)
    return Work.plan(read_recipe, registry, adapters, only, folder, disable, say).execute()


@dataclass
class Work:
    """A planned comparison."""

    recipe: Recipe
    settings: CompareSettings
    folder: Path
    base: Plan
    candidates: list[Candidate]
    general: General | None
    disable: tuple[str, ...]
    trusted_code: tuple[str, ...]
    say: Callable[[str], None]
    found: dict[str, Method] = field(default_factory=dict)

    @classmethod
    def plan(
        cls,
        recipe: Recipe,
        registry: Registry,
        adapters: Sequence[str] = (),
        only: Sequence[str] = (),
        folder: Path | str | None = None,
        disable: Sequence[str] = (),
        say: Callable[[str], None] | None = None,
    ) -> Work:
        """Check everything; the arguments are those of `compare`."""
        check_shape(recipe)
        settings = read_settings(recipe)
        chosen = entries(recipe, settings, adapters, only)
        base = base_plan(recipe, registry, settings, chosen)
        general = general_of(recipe, registry, settings, base.stages[0])
        stem = recipe.path.stem if recipe.path else "recipe"
        place = Path(folder) if folder else _runs(recipe) / f"{stem}-comparison"
        check_writable(place)
        _check_free(place)
        planned = candidates(recipe, registry, settings, chosen, place)
        return cls(
            recipe, settings, place, base, planned, general, tuple(disable), registry.trusted_code, say or _to_stderr
        )

    def execute(self) -> Comparison:
        """Run what is not finished, and write the tables after each method.

        Raises:
            TunesmithError: as `compare`.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        held = RunFolder(self.folder)
        held.lock()
        try:
            (self.folder / JOBS).mkdir(exist_ok=True)
            with _forwarded() as relay:
                base = self._base(relay)
                comparison = self._written(base)
                for number, candidate in enumerate(self.candidates, 1):
                    self.say(f"== {number} of {len(self.candidates)}: {candidate.name}")
                    self.found[candidate.name] = self._method(candidate, base, relay)
                    comparison = self._written(base)
                return comparison
        finally:
            held.release()

    # --- the parts ----------------------------------------------------------------------------
    def _base(self, relay: Relay) -> Method:
        path = self.folder / "base.json"
        wanted = [self.base.stages[0].fingerprint, self.general.fingerprint if self.general else ""]
        kept = parsed_file(path)
        if kept.get("fingerprints") != wanted or not kept.keys() >= MEASURED:
            self.say("== the base model")
            error = self._child("base", self.base, relay, base=str(path)).get("error")
            if error:
                raise _raised(error)
            kept = {**json.loads(path.read_text(encoding="utf-8")), "fingerprints": wanted}
            if not kept["measures"]:
                raise DataError("the recipe's evaluators measured nothing", fix="Add another [[evaluate]].")
            write_file(path, json.dumps(kept) + "\n")
        return base_method(kept)

    def _method(self, candidate: Candidate, base: Method, relay: Relay) -> Method:
        run = self._finished_run(candidate)
        if run is None or not self._general_is_measured(run):
            outcome = self._child(candidate.slug, candidate.plan, relay, run=str(run) if run else None)
            if error := outcome.get("error"):
                self.say(f"failed: {error['what']}")
                return unfinished(candidate, "failed", error)
            run = Path(outcome["run"])
        else:
            self.say(f"taken from {run}")
        return finished(candidate, run, base)

    def _finished_run(self, candidate: Candidate) -> Path | None:
        """The newest finished run of the same plan in this folder."""
        for path in sorted(self.folder.glob("*/manifest.json"), reverse=True):
            if changed := problems(path.parent):
                file, said = next(iter(changed.items()))
                self.say(f"passed over: {file} is damaged: {said}")
                continue
            folder = RunFolder(path.parent)
            stages = folder.manifest.get("plan", {}).get("stages", [])
            same = [stage.get("fingerprint") for stage in stages] == [candidate.stage.fingerprint]
            if same and folder.status == "done" and (path.parent / "artifact").is_dir():
                return path.parent
        return None

    def _general_is_measured(self, run: Path) -> bool:
        return self.general is None or read_general(run).get("fingerprint") == self.general.fingerprint

    def _child(self, slug: str, plan: Plan, relay: Relay, **more: Any) -> dict[str, Any]:
        """Run a job in a process of its own, and return its outcome."""
        place = self.folder / JOBS
        recipe, outcome = place / f"{slug}.toml", place / f"{slug}.outcome.json"
        write_file(recipe, plan.recipe.to_toml())
        outcome.unlink(missing_ok=True)
        job = Job(
            recipe=str(recipe),
            recipe_folder=str(plan.recipe.folder),
            folder=str(self.folder),
            outcome=str(outcome),
            general=self.settings.general,
            measure=self.settings.measure,
            general_fingerprint=self.general.fingerprint if self.general else "",
            disable=self.disable,
            trusted_code=self.trusted_code,
            **more,
        )
        job.write(place / f"{slug}.json")
        code = relay.call([sys.executable, "-P", "-m", "tunesmith.comparison.child", str(place / f"{slug}.json")])
        if relay.received is not None:
            raise Stopped(
                relay.received, "stopped; the methods that are finished are kept", fix="The same command goes on."
            )
        if outcome.is_file():
            return json.loads(outcome.read_text(encoding="utf-8"))
        what = (
            f"its process was killed by {signal.Signals(-code).name}" if code < 0 else f"its process ended with {code}"
        )
        fix = "The system does this when memory runs out: take a smaller batch." if code == -signal.SIGKILL else None
        died: dict[str, Any] = {
            "what": what,
            "where": None,
            "fix": fix,
            "details": [],
            "exit_code": 128 - code if code < 0 else code,
        }
        return {"error": died}

    def _written(self, base: Method) -> Comparison:
        comparison = Comparison(
            recipe=str(self.recipe.path),
            folder=self.folder,
            created=now(),
            environment=environment(),
            base=base,
            methods=tuple(self.found.get(c.name) or unfinished(c, "waiting") for c in self.candidates),
        )
        write(comparison)
        return comparison


@dataclass
class Relay:
    """Hands signals on to the child, which finishes its step and saves."""

    process: subprocess.Popen[bytes] | None = None
    received: int | None = None

    def call(self, command: Sequence[str]) -> int:
        """Run a child to its end. It has a session of its own, so that Ctrl-C reaches it through here only."""
        if self.received is not None:
            return 0
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=2, start_new_session=True) as self.process:
            code = self.process.wait()
        self.process = None
        return code

    def hand_on(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        self.received = number
        if self.process is not None:
            self.process.send_signal(number)


@contextmanager
def _forwarded() -> Iterator[Relay]:
    relay = Relay()
    try:
        earlier = {number: signal.signal(number, relay.hand_on) for number in SIGNALS}
    except ValueError:  # not in the main thread: the caller keeps its own signals
        yield relay
        return
    try:
        yield relay
    finally:
        for number, previous in earlier.items():
            signal.signal(number, previous)


def _check_free(place: Path) -> None:
    """Refuse a folder with files of somebody else, which the tables would overwrite.

    Raises:
        UsageError: it is not empty, and no comparison was begun in it.
    """
    names = {path.name for path in place.iterdir()} if place.is_dir() else set()
    begun = names <= {LOCK, JOBS} or (place / JOBS / "base.json").is_file()
    if begun or {"folder", "base", "methods"} <= parsed_file(place / f"{NAME}.json").keys():
        return
    raise UsageError(
        f"{place} is not empty, and holds no comparison to go on with",
        where=str(place),
        fix="Give an empty or a new folder with --to.",
    )


def _runs(recipe: Recipe) -> Path:
    run = recipe.tree.get("run", {})
    return Path(run.get("folder", "runs")) if isinstance(run, dict) else Path("runs")


def _raised(error: dict[str, Any]) -> TunesmithError:
    made = TunesmithError(
        f"the base model cannot be measured: {error['what']}",
        where=error["where"],
        fix=error["fix"],
        details=error["details"],
    )
    made.exit_code = error["exit_code"]
    return made


def _to_stderr(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
