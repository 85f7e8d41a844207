"""Measuring the held-out rows: before and after training, and between two steps without touching the training."""

from __future__ import annotations

import hashlib
import json
import random
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

from tunesmith.adapted import Adapted, ModelHandle
from tunesmith.context import Context, SilentReporter
from tunesmith.errors import Stopped, TunesmithError
from tunesmith.folder import RunFolder
from tunesmith.guard import guarded, seed_everything, wrong_type
from tunesmith.ledger import Ledger
from tunesmith.oversight import Changed, untouched
from tunesmith.plan import StagePlan, Use
from tunesmith.records import Dataset, Records
from tunesmith.registry import Registry
from tunesmith.results import Curve, Evaluation, Matrix, Measure, Sample, Table
from tunesmith.spec import Evaluator
from tunesmith.tasks import by_task, tasks_of

Measures = Mapping[str, Measure]
BETWEEN = "evaluate in between"
FIGURES = ("value", "low", "high", "n", "better", "unit")  # of a measure between two steps, without its rows


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """What `Context.held_out` offers a trainer: the recipe's evaluators, between two steps.

    Args:
        before: the measures by name, as they were before training: their names and directions are those to come.
        run: runs evaluators on a handle; called with it and their names, all for none.
        keep: keeps what was measured after a step, and tells the observers.
    """

    before: Measures
    run: Callable[[ModelHandle, Sequence[str]], Measures]
    keep: Callable[[int, Measures], None]

    def measure(self, adapted: Adapted, names: Sequence[str] = ()) -> Measures:
        """Measure a model as it is now; random generators and train modes are then as they were.

        Args:
            names: the evaluators to run; empty for all of the recipe.

        Raises:
            Stopped: a signal came.
            TunesmithError: an evaluator failed.
        """
        with random_kept(), adapted.use() as model, _modes_kept(model):
            return self.run(replace(adapted.handle, model=model), names)

    def report(self, step: int, measures: Measures) -> None:
        """Keep what was measured after `step` in `evaluations.jsonl`, and tell `tunesmith_evaluated`."""
        self.keep(step, measures)


def evaluate(uses: tuple[Use, ...], handle: ModelHandle, data: Dataset, context: Context) -> dict[str, Any]:
    """Run evaluators: `{"measures": {name: {...}}, "samples": [...]}` as plain data.

    What else there is to print and to draw stands under `"curves"`, `"tables"` and `"matrices"`.
    """
    measures: dict[str, Any] = {}
    samples: list[Any] = []
    tasks = tasks_of(data)
    shown: dict[str, list[Any]] = {"curves": [], "tables": [], "matrices": []}
    for use in uses:
        seed_everything(context.seed)
        try:
            with untouched(use, data, handle.model), guarded(use):
                found = use.call(handle, data, use.settings, context)
        except (Stopped, Changed):
            raise
        except TunesmithError as error:
            if not use.implied:
                raise
            context.reporter.warn(f"{use.component.name} is left out: {error}")
            continue
        if isinstance(found, Mapping):
            found = Evaluation(measures=dict(found))
        if not isinstance(found, Evaluation):
            raise wrong_type(use, "Evaluation or a mapping of Measure", found)
        expected = (
            (Measure, found.measures.values()),
            (Sample, found.samples),
            (Curve, found.curves),
            (Table, found.tables),
            (Matrix, found.matrices),
        )
        for kind, records in expected:
            for made in records:
                if not isinstance(made, kind):
                    raise wrong_type(use, f"{kind.__name__} records", made)
        for name, measure in {**found.measures, **by_task(found.measures, tasks, context.seed)}.items():
            key = name if name not in measures else f"{use.component.name}/{name}"
            measures[key] = asdict(measure)
        samples.extend(asdict(sample) for sample in found.samples)
        for name, listed in shown.items():
            listed.extend(asdict(record) for record in getattr(found, name))
    # through JSON, so that what is kept in memory equals what a resumed run reads
    content = {"measures": measures, "samples": samples, **{name: listed for name, listed in shown.items() if listed}}
    return json.loads(json.dumps(content))


def held_out(
    stage: StagePlan,
    data: Dataset,
    seconds: dict[str, float],
    before: Mapping[str, Any],
    folder: RunFolder,
    registry: Registry,
    context: Context,
) -> HeldOut:
    """What the trainer of a stage may measure between two steps.

    Args:
        seconds: the stage's seconds by phase, to which those of measuring are added.
        before: the measures before training, as `evaluate` gives them.
    """
    # what an evaluator says, it has said before training; its rows are in no ledger of the stage
    quiet = context.with_(reporter=SilentReporter(), facts={}, ledger=Ledger())

    def run(handle: ModelHandle, names: Sequence[str]) -> Measures:
        begun = time.monotonic()
        uses = tuple(use for use in stage.evaluators if _between(use, names))
        measured = evaluate(uses, handle, data, quiet)["measures"]
        seconds[BETWEEN] = round(seconds.get(BETWEEN, 0.0) + time.monotonic() - begun, 3)
        return _measures(measured)

    def keep(step: int, measures: Measures) -> None:
        figures = {name: {key: getattr(found, key) for key in FIGURES} for name, found in measures.items()}
        folder.evaluated(stage.name, step, figures)
        told = {"stage": stage.name, "step": step, "measures": dict(measures)}
        registry.notify("tunesmith_evaluated", context.reporter.warn, **told)

    return HeldOut(before=_measures(before), run=run, keep=keep)


def _between(use: Use, names: Sequence[str]) -> bool:
    """Whether an evaluator runs between steps: one that is named, or all but what every run measures unasked."""
    assert isinstance(use.component, Evaluator)
    return use.component.name in names if names else not (use.implied and use.component.standing)


def measurable(stage: StagePlan, data: Dataset, context: Context) -> tuple[Use, ...]:
    """The stage's evaluators without those that were not asked for and cannot measure these rows."""
    if not len(data.validation):
        context.reporter.warn(
            "no rows are held out, so nothing will say whether training helped: set `validation = 0.1` in [data]"
        )
    kept = []
    for use in stage.evaluators:
        assert isinstance(use.component, Evaluator)
        accepts, reads = use.component.accepts, use.component.held_out
        if use.implied and reads and (not len(data.validation) or (accepts and data.type not in accepts)):
            continue
        kept.append(use)
    return tuple(kept)


def digest_of(records: Records) -> str:
    """sha256 over the names and the content of rows, in order; empty where there is none."""
    if not len(records):
        return ""
    digest = hashlib.sha256()
    for name, row in records:
        digest.update(json.dumps([name, row], sort_keys=True, default=str).encode())
    return digest.hexdigest()


def _measures(described: Mapping[str, Mapping[str, Any]]) -> dict[str, Measure]:
    """Measures out of the plain data that `evaluate` gives."""

    def fields(measure: Mapping[str, Any]) -> dict[str, Any]:
        return {key: tuple(value) if isinstance(value, list) else value for key, value in measure.items()}

    return {name: Measure(**fields(measure)) for name, measure in described.items()}


@contextmanager
def random_kept() -> Iterator[None]:
    """Put Python's, NumPy's and torch's generators back as they were, as far as they are in use."""
    numpy: Any = sys.modules.get("numpy")
    torch: Any = sys.modules.get("torch")
    cuda = torch is not None and torch.cuda.is_available()
    of_python = random.getstate()
    of_numpy = numpy.random.get_state() if numpy is not None else None
    of_torch = torch.get_rng_state() if torch is not None else None
    of_cuda = torch.cuda.get_rng_state_all() if cuda else None
    try:
        yield
    finally:
        random.setstate(of_python)
        if numpy is not None:
            numpy.random.set_state(of_numpy)
        if torch is not None:
            torch.set_rng_state(of_torch)
        if cuda:
            torch.cuda.set_rng_state_all(of_cuda)


@contextmanager
def _modes_kept(model: Any) -> Iterator[None]:
    """Put every module back into the mode (training or not) that it was in."""
    modes = [(module, module.training) for module in model.modules()] if hasattr(model, "modules") else []
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
