"""What a child process does: one ordinary run, or the unadapted model, and the general text after it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tunesmith import artifact
from tunesmith.adapted import Adapted
from tunesmith.context import Context, Reporter, StopFlag
from tunesmith.dense import sizes
from tunesmith.guard import guarded, wrong_type
from tunesmith.ledger import Ledger
from tunesmith.memory import peak_memory
from tunesmith.plan import Plan, Use, make_plan
from tunesmith.planner import Planner
from tunesmith.recipe import Recipe, read
from tunesmith.records import Dataset
from tunesmith.registry import Registry
from tunesmith.roles import with_models
from tunesmith.run import signals, start
from tunesmith.stage import evaluate, load_data
from tunesmith.store import write_json

GENERAL = "general.json"


@dataclass(frozen=True, kw_only=True)
class Job:
    """What one child is asked for, as plain data in a file.

    Args:
        recipe: the candidate's recipe, a TOML file.
        recipe_folder: where relative paths in it start.
        folder: where the run is made.
        base: measure the unadapted model, and write what it came to into this file.
        run: a finished run whose general ability is all that is missing.
        general: the tables `general` and `measure` of [compare].
        general_fingerprint: what the measured general ability is kept under.
        disable: plugins to leave out.
        trusted_code: models whose own code may be run.
    """

    recipe: str
    recipe_folder: str
    folder: str
    outcome: str
    base: str | None = None
    run: str | None = None
    general: dict[str, Any] | None = None
    measure: dict[str, Any] | None = None
    general_fingerprint: str = ""
    disable: tuple[str, ...] = ()
    trusted_code: tuple[str, ...] = ()

    def write(self, path: Path) -> None:
        """Keep the job as JSON."""
        write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> Job:
        """The job that `write` kept."""
        return cls(**json.loads(path.read_text(encoding="utf-8")))


def execute(job: Job, reporter: Reporter) -> Path | None:
    """Do the job; returns the run folder, or None for the unadapted model.

    Raises:
        TunesmithError: whatever went wrong.
    """
    recipe = read(Path(job.recipe))
    recipe.base = Path(job.recipe_folder)
    registry = Registry.discover(disable=job.disable, files=recipe.plugin_files, trusted_code=job.trusted_code)
    general = _general(job, recipe, registry)
    if job.base is not None:
        plan = make_plan(recipe, registry)
        with _context(plan, reporter) as context:
            write_json(Path(job.base), _measure_base(plan, registry, context, general))
        return None
    if job.run is not None:
        run, plan = Path(job.run), make_plan(recipe, registry)
    else:
        done = start(make_plan(recipe, registry), registry, reporter, base=Path(job.folder))
        run, plan = done.folder, done.plan
    if general is not None:
        with _context(plan, reporter) as context:
            reporter.phase("general ability: load model")
            adapted = artifact.load_artifact(run / "artifact", registry, context)
            found = _measure_general(general, adapted, registry, context)
        write_json(run / GENERAL, {"fingerprint": job.general_fingerprint, **found})
    return run


def _measure_base(plan: Plan, registry: Registry, context: Context, general: tuple[Use, Use] | None) -> dict[str, Any]:
    begun = time.monotonic()
    stage = plan.stages[0]
    context.reporter.phase("load data")
    data = load_data(stage, context)
    context.reporter.phase("load model")
    role = replace(stage.main_role, adapter=None)
    handle = artifact.load_base(artifact.line_of_role(role, context.folder, {}, registry), registry, context)
    for note in handle.notes:
        context.reporter.say(note)
    adapted = Adapted(handle)
    handle.model.eval()
    evaluators = with_models(stage.evaluators, {}, registry, context)
    context.reporter.phase("evaluate")
    with adapted.use() as model:
        found = evaluate(evaluators, replace(handle, model=model), data, context)
    first = next(iter(handle.model.parameters()), None)
    return {
        **found,
        "general": _measure_general(general, adapted, registry, context) if general else {},
        "parameters": sum(sizes(handle.model).values()),
        "memory": peak_memory(str(getattr(first, "device", "cpu"))),
        "seconds": round(time.monotonic() - begun, 3),
    }


def _general(job: Job, recipe: Recipe, registry: Registry) -> tuple[Use, Use] | None:
    if job.general is None or job.measure is None:
        return None
    planner = Planner(recipe, registry)
    loader = planner.use("loader", job.general, ("compare", "general"))
    return loader, planner.use("evaluator", job.measure, ("compare", "measure"))


def _measure_general(
    general: tuple[Use, Use], adapted: Adapted, registry: Registry, context: Context
) -> dict[str, Any]:
    """Measure the text from elsewhere: its held-out rows where it has some, else all of them."""
    loader, measure = general
    context = context.with_(ledger=Ledger())

    def has_template() -> bool:
        return bool(getattr(adapted.handle.tokenizer, "chat_template", None))

    context.reporter.phase("general ability: evaluate")
    with guarded(loader):
        data = loader.call(loader.settings, context.with_(has_template=has_template))
    if not isinstance(data, Dataset):
        raise wrong_type(loader, "Dataset", data)
    context.check_rows()
    rows = data.validation if len(data.validation) else data.train
    evaluators = with_models((measure,), {}, registry, context)
    with adapted.use() as model:
        handle = replace(adapted.handle, model=model)
        return evaluate(evaluators, handle, replace(data, validation=rows), context)


@contextmanager
def _context(plan: Plan, reporter: Reporter) -> Iterator[Context]:
    """The surroundings of a measurement that a signal can stop."""
    if plan.run.threads:
        import torch

        torch.set_num_threads(plan.run.threads)
    stop = StopFlag()
    with signals(stop, reporter):
        yield Context(
            seed=plan.run.seed,
            device=plan.run.device,
            folder=plan.recipe.folder,
            reporter=reporter,
            stop=stop,
            max_lost_rows=plan.run.max_lost_rows,
        )
