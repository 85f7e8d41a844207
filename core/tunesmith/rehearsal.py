"""A few real steps of a stage in a process of its own: what memory and time they really take.

`python -m tunesmith.rehearsal JOB.json` is that process. It trains a throw-away copy: on the batch of the longest rows,
which needs most memory, and on rows spread over the data, whose time stands for the whole run.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path

from tunesmith import speed as machine
from tunesmith.children import follow_parent
from tunesmith.context import Context, SilentReporter
from tunesmith.errors import TunesmithError, UsageError
from tunesmith.estimate import Lengths, Sizes, Speed
from tunesmith.estimating import asked, keep_lengths, quantizer_of
from tunesmith.guard import guarded, seed_everything
from tunesmith.ledger import Ledger
from tunesmith.memory import forget_peak, peak_memory, resident, trim
from tunesmith.plan import Plan, StagePlan, make_plan
from tunesmith.recipe import read
from tunesmith.records import Dataset, Records
from tunesmith.registry import Registry
from tunesmith.roles import Roles, load_roles
from tunesmith.spec import Quantizer, Settings
from tunesmith.stage import load_data
from tunesmith.staging import scratch
from tunesmith.store import write_file, write_json
from tunesmith.tokenized import lengths_of

STEPS = 3  # on the longest batch: the optimizer's state is there from the second on
SPREAD = 6  # on rows spread over the data, at least
SPREAD_ROWS = 24  # of them, at least
#: What is set for a rehearsal, of the settings that a trainer has.
SETTINGS = {
    "save_steps": 1_000_000,
    "saves_per_epoch": None,
    "logging_steps": 1,
    "eval_steps": None,
    "evals_per_epoch": None,
    "eval_use": (),
    "load_best_model_at_end": False,
    "early_stopping_patience": None,
}


@dataclass(frozen=True, kw_only=True)
class Rehearsal:
    """What a few steps took.

    Args:
        memory: bytes at the peak of the steps on the longest batch, their checkpoint included.
        of: what these are the peak of: `process`, or a GPU.
        process: bytes of the process with its libraries, before the model.
        loaded: bytes with the model, before the first step.
        loading: bytes at the peak of loading.
        longest_seconds: of a step on the longest batch.
        step_seconds: of a step on rows spread over the data.
        speed: of this machine, measured beside it.
        lengths: of the rows as training sees them.
    """

    memory: int
    of: str
    process: int
    loaded: int
    loading: int
    longest_seconds: float
    step_seconds: float
    speed: Speed | None
    lengths: Lengths


def rehearse(plan: Plan, stage: StagePlan, disable: Sequence[str] = ()) -> Rehearsal:
    """Run a few steps of a stage in a process of its own.

    Raises:
        UsageError: the stage starts from an earlier one, or its trainer cannot be cut short.
        TunesmithError: what the steps ended in.
    """
    if stage.needs:
        raise UsageError(
            f"stage {stage.name!r} starts from what an earlier one makes, and cannot be tried before it",
            fix="Probe a recipe of that stage alone.",
        )
    shortened(stage, STEPS)
    with scratch() as folder:
        recipe, outcome = folder / "recipe.toml", folder / "outcome.json"
        write_file(recipe, plan.recipe.to_toml())
        job = {"recipe": str(recipe), "recipe_folder": str(plan.recipe.folder), "stage": stage.name}
        write_json(folder / "job.json", {**job, "outcome": str(outcome), "disable": list(disable)})
        command = [sys.executable, "-P", "-m", "tunesmith.rehearsal", str(folder / "job.json")]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=2) as process:  # the pipe tells it that we live
            code = process.wait()
        found = json.loads(outcome.read_text(encoding="utf-8")) if outcome.is_file() else {}
    if "error" in found or not found:
        told = found.get("error") or {"what": f"the process of the probe ended with {code}", "fix": None}
        error = TunesmithError(told["what"], where=told.get("where"), details=told.get("details", ()), fix=told["fix"])
        error.exit_code = told.get("exit_code", 71 if code == -9 else 1)
        raise error
    speed = Speed(**found.pop("speed")) if found.get("speed") else None
    return Rehearsal(**{**found, "lengths": Lengths(**found["lengths"]), "speed": speed})


def shortened(stage: StagePlan, steps: int) -> Settings:
    """The trainer's settings for so many steps and nothing besides them: no checkpoint between, nothing measured.

    Raises:
        UsageError: the trainer cannot be cut short.
    """
    own = {item.name for item in fields(stage.trainer.settings)}
    if "max_steps" not in own:
        raise UsageError(
            f"trainer {stage.trainer.component.name!r} has no setting max_steps, so a few steps cannot be asked of it",
            fix="Run the recipe, and look at its results.",
        )
    changed = {name: value for name, value in {**SETTINGS, "max_steps": steps}.items() if name in own}
    return replace(stage.trainer.settings, **changed)


# --- in the child ---------------------------------------------------------------------------------
class _Clock(SilentReporter):
    """Notes when each step was done."""

    def __init__(self) -> None:
        self.marks: list[float] = []

    def progress(self, step: int, total: int, metrics: Mapping[str, float]) -> None:
        if "loss" in metrics:
            self.marks.append(time.monotonic())


def perform(plan: Plan, stage: StagePlan, registry: Registry, folder: Path) -> Rehearsal:
    """Do it in this process, in a folder that is thrown away."""
    context = Context(
        seed=plan.run.seed,
        device=plan.run.device,
        folder=plan.recipe.folder,
        stage_folder=folder,
        max_lost_rows=1.0,
        registry=registry,
        trusted_code=registry.trusted_code,
    )
    for use in stage.uses():
        use.component.resolve()  # what a run imports
    sizes = _sizes(stage, context)
    speed = _speed(plan, stage, sizes) if sizes else None
    process = _settled()
    if sizes and speed:
        speed = replace(speed, process=0 if speed.overlaps else process)
        machine.keep(context.cache, sizes, plan.run.device, plan.run.threads, speed, quantizer_of(stage.main_role))
    data = load_data(stage, context)
    lengths, places = lengths_of(plan, stage, data, context)
    lengths = replace(lengths, held=max(0, _settled() - process))
    keep_lengths(stage, context, lengths)
    forget_peak()
    roles = load_roles(stage, data, {}, registry, context)
    gc.collect()
    _read_all(roles)
    device = str(getattr(next(iter(roles.main.model.parameters()), None), "device", "cpu"))
    loaded, loading = int(resident()), peak_memory(device)["bytes"]
    on_gpu = device.startswith("cuda")
    if on_gpu:
        import torch

        loaded, process = int(torch.cuda.memory_allocated(device)), 0
        torch.cuda.reset_peak_memory_stats(device)
    forget_peak()
    a_step = stage.trainer.settings.batch_size * getattr(stage.trainer.settings, "gradient_accumulation_steps", 1)  # type: ignore[attr-defined]
    longest, spread = ([places[example] for example in found] for found in picked_rows(lengths.tokens, a_step))
    seconds = _train(stage, roles, data, longest * STEPS, STEPS, context)
    memory = peak_memory(device)
    gc.collect()
    typical = _train(stage, roles, data, spread, max(1, len(spread) // a_step), context)
    return Rehearsal(
        memory=memory["bytes"],
        of=memory["of"],
        process=process,
        loaded=loaded,
        loading=loading,
        longest_seconds=min(seconds[1:] or seconds),
        step_seconds=sum(typical) / len(typical),
        speed=speed,
        lengths=lengths,
    )


def picked_rows(tokens: Sequence[int], a_step: int) -> tuple[list[int], list[int]]:
    """The rows of one step on the longest, and those of some steps whose time stands for the whole run.

    The latter are neighbours in order of length, as many as a step takes, from evenly spaced places of that order:
    sorted again by a trainer that groups rows by length they are padded as little as all rows are, and shuffled by one
    that does not, as much.
    """
    order = sorted(range(len(tokens)), key=lambda row: -tokens[row])
    longest = (order * (a_step // len(order) + 1))[:a_step]
    steps = min(max(SPREAD, -(-SPREAD_ROWS // a_step)), max(1, len(order) // a_step))
    starts = [(2 * step + 1) * len(order) // (2 * steps) - a_step // 2 for step in range(steps)]
    starts = [max(0, min(start, len(order) - a_step)) for start in starts]
    return longest, [row for start in starts for row in order[start : start + a_step]]


def _settled() -> int:
    """Bytes of this process without what is free in it."""
    gc.collect()
    trim()
    return int(resident())


def _read_all(roles: Roles) -> None:
    """Read a value of every page of the weights: what a file is only mapped for is in memory when training reads it."""
    for parameter in (value for adapted in roles.models.values() for value in adapted.model.parameters()):
        if parameter.device.type == "cpu":
            parameter.detach().flatten()[:: max(1, 4096 // parameter.element_size())].clone()


def _train(
    stage: StagePlan, roles: Roles, data: Dataset, rows: Sequence[int], steps: int, context: Context
) -> list[float]:
    """Train on some rows for some steps; the seconds of each."""
    settings = shortened(stage, steps)
    picked = Records([data.train.rows[row] for row in rows], [f"row-{place}" for place in range(len(rows))])
    ledger, clock = Ledger(), _Clock()
    ledger.read(len(picked))
    begin = roles.main.begin

    def noted(total_steps: int) -> None:
        begin(total_steps)
        clock.marks.append(time.monotonic())

    roles.main.begin = noted  # type: ignore[method-assign]
    seed_everything(context.seed)
    try:
        with guarded(stage.trainer), tempfile.TemporaryDirectory(dir=context.stage_folder) as place:
            within = context.with_(reporter=clock, ledger=ledger, stage_folder=Path(place), facts={})
            stage.trainer.call(roles.models, Dataset(type=data.type, train=picked), settings, within)
    finally:
        roles.main.begin = begin  # type: ignore[method-assign]
    return [after - before for before, after in zip(clock.marks, clock.marks[1:], strict=False)]


def _sizes(stage: StagePlan, context: Context) -> Sizes | None:
    """What the model tells of itself."""
    use = stage.main_role.model
    return asked(use, Sizes, use.settings, context, stage.main_role.role.head) if use else None


def _speed(plan: Plan, stage: StagePlan, sizes: Sizes) -> Speed:
    """This machine's speed, without what the process takes."""
    import torch

    use, unpack = stage.main_role.quantizer, None
    if use is not None and isinstance(use.component, Quantizer) and use.component.unpack:
        unpack = partial(use.component.resolve("unpack"), use.settings)

    if plan.run.threads:
        torch.set_num_threads(plan.run.threads)
    device = "cuda" if plan.run.device != "cpu" and torch.cuda.is_available() else "cpu"
    with guarded(use) if use and unpack else nullcontext():
        return machine.measure(sizes, device, unpack)


def main(path: Path) -> int:
    """Do a job, leave its outcome in the file that the job names, and return the exit code."""
    follow_parent()
    from tunesmith.comparison.child import described
    from tunesmith.console import wait_quietly
    from tunesmith.console.failure import guarded as told

    wait_quietly()
    job = json.loads(path.read_text(encoding="utf-8"))

    def work() -> int:
        try:
            recipe = read(Path(job["recipe"]))
            recipe.base = Path(job["recipe_folder"])
            registry = Registry.discover(disable=tuple(job["disable"]), files=recipe.plugin_files)
            plan = make_plan(recipe, registry)
            found = perform(plan, plan.stage(job["stage"]), registry, path.parent)
        except BaseException as error:
            write_json(Path(job["outcome"]), {"error": described(error)})
            raise
        write_json(Path(job["outcome"]), asdict(found))
        return 0

    return told(work, debug=bool(os.environ.get("TUNESMITH_DEBUG")))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
