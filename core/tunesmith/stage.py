"""One stage: load data -> load, quantize, adapt each role -> evaluate -> train -> evaluate -> commit."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from tunesmith import artifact, shape
from tunesmith.adapted import Adapted
from tunesmith.card import model_card
from tunesmith.context import Context
from tunesmith.conversational import has_template
from tunesmith.errors import DataError, PluginError, Stopped
from tunesmith.folder import RunFolder, now
from tunesmith.guard import guarded, seed_everything, wrong_type
from tunesmith.held_out import HeldOut, digest_of, held_out, measurable
from tunesmith.held_out import evaluate as evaluate
from tunesmith.labels import LABEL_HEADS, check_labels
from tunesmith.ledger import LEDGER
from tunesmith.memory import peak_memory
from tunesmith.oversight import untouched
from tunesmith.paired import compare_measures
from tunesmith.plan import SINGLE, Plan, StagePlan, Use
from tunesmith.preparation import Watch, load
from tunesmith.records import Dataset
from tunesmith.registry import Registry
from tunesmith.results import TrainResult
from tunesmith.roles import Roles, load_roles, untrained
from tunesmith.spec import Evaluator, Trainer
from tunesmith.store import DIGESTS, checkpoint_step, clean_staging, damage, newest_good, sha256_file, write_json

BEFORE = "evaluation-before.json"
RESULT = "result.json"  # written last: a stage that has one is finished


@dataclass
class StageResult:
    """What a stage came to, as plain data for `results.json` and the console."""

    name: str
    artifact: Path
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    ledger: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    exports: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    memory: dict[str, Any] = field(default_factory=dict)
    held_out: str = ""
    """sha256 of the held-out rows; measures of two runs can be paired where it is the same."""
    verdict: list[dict[str, Any]] = field(default_factory=list)
    reused: str | None = None

    def describe(self) -> dict[str, Any]:
        """The result as JSON-ready data."""
        return {**asdict(self), "artifact": str(self.artifact)}

    @classmethod
    def read(cls, place: Path, name: str) -> StageResult:
        """The result of a finished stage, from its folder.

        Raises:
            DataError: the file does not hold what was written there.
        """
        described = _kept(place / RESULT, shape.RESULT)
        known = {key: value for key, value in described.items() if key in {item.name for item in fields(cls)}}
        return cls(**{**known, "name": name, "artifact": place / "artifact"})


def _kept(path: Path, wanted: Any) -> dict[str, Any]:
    if said := shape.problem(path, wanted):
        raise DataError(
            f"{path.name} is damaged: {said}", where=str(path), fix="Restore it from a copy, or begin a new run."
        )
    return dict(json.loads(path.read_text(encoding="utf-8")))


class StageRun:
    """Executes one stage of a plan in a run folder."""

    def __init__(
        self,
        plan: Plan,
        stage: StagePlan,
        folder: RunFolder,
        registry: Registry,
        context: Context,
        artifacts: Mapping[str, Path],
    ) -> None:
        self.plan = plan
        self.stage = stage
        self.folder = folder
        self.registry = registry
        self.place = stage_folder(folder.path, stage.name)
        self.context = context.with_(stage_folder=self.place, registry=registry)
        self.artifacts = artifacts
        self.result = StageResult(stage.name, self.place / "artifact")

    def execute(self) -> StageResult:
        """Run the stage to its end.

        Raises:
            Stopped: a signal came; what was trained is committed.
            TunesmithError: whatever went wrong, named.
        """
        self.place.mkdir(parents=True, exist_ok=True)
        clean_staging(self.place)
        clean_staging(self.place / "checkpoints")
        self._forget_uncommitted()
        data = self._timed("load data", self._load_data)
        self.stage = replace(self.stage, evaluators=measurable(self.stage, data, self.context))
        self.result.held_out = digest_of(data.validation)
        roles = self._timed("load model", lambda: self._load_roles(data))
        main = roles.main
        self.result.before = self._evaluated_before(roles, data)
        result = self._timed("train", lambda: self._train(roles.models, data))
        self.context.ledger.save(self.place / LEDGER)
        self.result.ledger = self.context.ledger.summary()
        self.result.facts = dict(self.context.facts)
        if result.stopped is not None:
            raise Stopped(
                result.stopped,
                f"stopped at step {result.steps} of {result.total_steps}; everything is saved",
                fix=f"tunesmith resume {self.folder.path}",
            )
        self.result.after = self._timed("evaluate after", lambda: self._evaluate(main, data))
        before, after = self.result.before.get("measures", {}), self.result.after.get("measures", {})
        self.result.verdict = [moved.describe() for moved in compare_measures(before, after, self.context.seed)]
        self._timed("commit", lambda: self._commit(main))
        context = self.context.with_(rows=lambda: data)
        for use in self.stage.exporters:
            made = self._timed(f"export {use.component.name}", partial(export, use, self.result.artifact, context))
            self.result.exports.append(str(made))
        self.context.check_stop("commit")  # a run that was asked to stop is never done, whenever that was
        self.result.facts = dict(self.context.facts)
        first = next(iter(main.model.parameters()), None)
        self.result.memory = peak_memory(str(getattr(first, "device", "cpu")))
        write_json(self.place / RESULT, self.result.describe())
        return self.result

    # --- the parts ----------------------------------------------------------------------------
    def _load_data(self) -> Dataset:
        # the split is the same in all repetitions
        return load_data(self.stage, self.context.with_(seed=self.plan.run.seed))

    def _load_roles(self, data: Dataset) -> Roles:
        roles = load_roles(self.stage, data, self.artifacts, self.registry, self.context)
        self.stage = replace(self.stage, evaluators=roles.evaluators)
        self.result.training.update(roles.counts)
        return roles

    def _train(self, roles: dict[str, Adapted], data: Dataset) -> TrainResult:
        use = self.stage.trainer
        handle = next(iter(roles.values())).handle
        identity = {"fingerprint": self.stage.fingerprint, "base": handle.digest}
        between = self._held_out(data)
        context = self.context.with_(identity=identity, held_out=between)
        seed_everything(self.context.seed)
        with untouched(use, data), guarded(use):
            result = use.call(roles, data, use.settings, context)
        if not isinstance(result, TrainResult):
            raise wrong_type(use, "TrainResult", result)
        self.result.training.update(asdict(result))
        return result

    def _held_out(self, data: Dataset) -> HeldOut:
        seconds, before = self.result.seconds, self.result.before["measures"]
        return held_out(self.stage, data, seconds, before, self.folder, self.registry, self.context)

    def _evaluated_before(self, roles: Roles, data: Dataset) -> dict[str, Any]:
        """Evaluate before training; a resumed run keeps what it measured the first time."""
        path = self.place / BEFORE
        if path.is_file():
            return _kept(path, shape.MEASURES)

        def measure() -> dict[str, Any]:
            with untrained(roles, self.stage.main_role.adapter, self.context) as handle:
                return evaluate(self.stage.evaluators, handle, data, self.context)

        measured = self._timed("evaluate before", measure)
        write_json(path, measured)
        return measured

    def _evaluate(self, adapted: Adapted, data: Dataset) -> dict[str, Any]:
        with adapted.use() as model:
            return evaluate(self.stage.evaluators, replace(adapted.handle, model=model), data, self.context)

    def _commit(self, adapted: Adapted) -> None:
        role = self.stage.main_role
        line = artifact.line_of_role(role, self.context.folder, self.artifacts, self.registry)
        line = replace(line, labels=adapted.handle.labels)
        card = {
            "run": self.folder.path.name,
            "stage": self.stage.name,
            "fingerprint": self.stage.fingerprint,
            "created": now(),
            "plugins": dict(self.plan.plugins),
        }
        text = model_card(self.stage, self.result, adapted)
        artifact.commit(self.result.artifact, line, adapted, card, text)

    # --- helpers ------------------------------------------------------------------------------
    def _forget_uncommitted(self) -> None:
        if not self.context.resume:
            return
        newest = newest_good(self.place / "checkpoints", self.context.reporter.warn)
        self.folder.forget_after(self.stage.name, checkpoint_step(newest) if newest else 0)

    def _timed(self, name: str, part: Any) -> Any:
        self.context.check_stop(name)
        self.context.reporter.phase(name)
        self.folder.event("phase", stage=self.stage.name, phase=name)
        begun, earlier = time.monotonic(), sum(self.result.seconds.values())
        value = part()
        # a phase may hold another one, whose seconds are its own
        inside = sum(self.result.seconds.values()) - earlier
        self.result.seconds[name] = round(time.monotonic() - begun - inside, 3)
        gc.collect()
        return value


def stage_folder(run: Path, name: str) -> Path:
    """Where a stage writes: the run folder itself for the only stage, `stages/NAME` otherwise."""
    return run if name == SINGLE else run / "stages" / name


def reusable(stage: StagePlan, place: Path) -> Path | None:
    """The artifact in a stage folder, when the stage was finished, is whole, and was the same."""
    kept = place / "artifact"
    if not (place / RESULT).is_file() or not (kept / artifact.CARD).is_file() or damage(kept):
        return None
    if shape.problem(place / RESULT, shape.RESULT):
        return None
    return kept if artifact.read_card(kept).get("fingerprint") == stage.fingerprint else None


def read_data(stage: StagePlan, context: Context, watch: Watch | None = None) -> Dataset:
    """Load a stage's rows and prepare them, whatever becomes of them.

    Args:
        watch: looks at the rows on their way.
    """
    return load(stage.data, context.with_(has_template=cache(partial(has_template, stage.begins, context))), watch)


def load_data(stage: StagePlan, context: Context, watch: Watch | None = None) -> Dataset:
    """Load a stage's rows, prepare them, and refuse when too many are lost.

    Args:
        watch: looks at the rows on their way.

    Raises:
        DataError: with the reasons and the first rows.
    """
    data = read_data(stage, context, watch)
    context.check_rows()
    context.ledger.held_out = len(data.validation)
    if not len(data.train):
        raise DataError("no row is left to train on", details=context.ledger.examples())
    if data.recognised:
        context.reporter.say(
            f"data: {data.recognised}: {len(data.train)} rows to train, {len(data.validation)} held out"
        )
    trainer = stage.trainer.component
    assert isinstance(trainer, Trainer)
    check_type(trainer, trainer.accepts, data)
    for evaluator in stage.evaluators:
        assert isinstance(evaluator.component, Evaluator)
        if evaluator.implied:
            continue
        check_type(evaluator.component, evaluator.component.accepts, data)
        if evaluator.component.held_out and not len(data.validation):
            raise DataError(
                "the recipe evaluates, but no rows are held out", fix="Set `validation = 0.1` (or a file) in [data]."
            )
    if trainer.roles[0].head in LABEL_HEADS:
        check_labels(data, context)
    return data


def export(use: Use, artifact: Path, context: Context) -> Path:
    """Let an exporter write an artifact in its form; the path of what it wrote."""
    before = sha256_file(artifact / DIGESTS)
    with guarded(use):
        made = use.call(artifact, use.settings, context)
    if not isinstance(made, Path):
        raise wrong_type(use, "the Path of what it wrote", made)
    if sha256_file(artifact / DIGESTS) != before or damage(artifact):
        raise PluginError(
            f"exporter {use.component.name!r} of {use.distribution} {use.version} changed the artifact that it was "
            "handed",
            where=str(artifact),
            fix="This is a defect of that plugin. `tunesmith resume RUN` makes the artifact again; export it without "
            "that plugin.",
        )
    return made


def check_type(component: Trainer | Evaluator, accepts: tuple[str, ...], data: Dataset) -> None:
    """Refuse rows of a type that a component does not take.

    Raises:
        DataError: naming the types that it takes.
    """
    if accepts and data.type not in accepts:
        how = next((data.instead[other] for other in accepts if other in data.instead), "")
        raise DataError(
            f"{component.kind} {component.name!r} cannot use {data.type!r} rows; it takes {', '.join(accepts)}",
            fix=f"{how}; or choose another {component.kind}."
            if how
            else "Choose another one, or map the columns: `tunesmith data check RECIPE` shows what was recognised.",
        )
