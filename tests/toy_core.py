"""A plugin in plain Python for the tests of the core: a model of one number, trained towards 1 in milliseconds.

`FAULTS` maps a place to a function that a test plants there: "loader", "model", "quantizer", "adapter", "trainer",
"evaluator", "exporter", "claims", "check", "preset", "save", "load", "merge" replace the result by what it returns (or
raises); "step" is called with the step's number and the context after every step.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import tunesmith as ts
from tunesmith import Context, Gt, ModelHandle, Settings, hookimpl
from tunesmith.store import checkpoint_step, commit_folder, newest_good

FAULTS: dict[str, Callable[..., Any]] = {}
SEEN: list[tuple[str, Any]] = []


class Weight:
    """One number that behaves like a parameter."""

    def __init__(self, value: float) -> None:
        self.value = value
        self.requires_grad = True

    def numel(self) -> int:
        return 1

    def requires_grad_(self, flag: bool) -> None:
        self.requires_grad = flag


class Network:
    """`base` is given, `shift` is trained."""

    def __init__(self, base: float) -> None:
        self.base = Weight(base)
        self.shift = Weight(0.0)

    def eval(self) -> None: ...

    @property
    def value(self) -> float:
        return self.base.value + self.shift.value

    def named_parameters(self) -> Iterator[tuple[str, Weight]]:
        yield from (("base", self.base), ("shift", self.shift))

    def parameters(self) -> Iterator[Weight]:
        yield from (self.base, self.shift)


@dataclass(frozen=True, kw_only=True)
class RowsSettings(Settings):
    """Settings of `rows`."""

    path: Path | None = None
    """A file whose lines are rows; without it rows are made."""
    more: tuple[Path, ...] = ()
    """Further files."""
    count: Annotated[int, Gt(0)] = 8
    """Rows to make."""
    held: int = 2
    """Rows to hold out."""
    drop: int = 0
    """Rows to drop."""


def load_rows(settings: RowsSettings, context: Context) -> ts.Dataset:
    if "loader" in FAULTS:
        return FAULTS["loader"]()
    texts = context.path(settings.path).read_text().split() if settings.path else ["row"] * settings.count
    context.ledger.read(len(texts))
    for number in range(settings.drop):
        context.ledger.drop(f"rows:{number + 1}", "not wanted")
    ids = [f"rows:{number + 1}" for number in range(settings.drop, len(texts))]
    rows = [{"text": text} for text in texts[settings.drop :]]
    cut = len(rows) - settings.held
    context.ledger.trained = cut
    return ts.Dataset(
        type="text", train=ts.Records(rows[:cut], ids[:cut]), validation=ts.Records(rows[cut:], ids[cut:])
    )


@dataclass(frozen=True, kw_only=True)
class ToySettings(Settings):
    """Settings of `toy`."""

    source: str
    """`toy:` and a number, or `toy:` and a file that holds one."""


def load_toy(settings: ToySettings, context: Context, head: str, load_options: dict[str, Any]) -> ModelHandle:
    SEEN.append(("load", (settings.source, head, load_options)))
    if "model" in FAULTS:
        return FAULTS["model"]()
    text = settings.source.removeprefix("toy:") or "0"
    if (file := context.folder / text).is_file():
        text = file.read_text()
    digest = hashlib.sha256(text.encode()).hexdigest()
    return ModelHandle(model=Network(float(text)), tokenizer=None, source=settings.source, digest=digest, head=head)


def claims(source: str, folder: Path) -> int:
    return FAULTS["claims"]() if "claims" in FAULTS else 5 if source.startswith("toy:") else 0


def quantize(settings: Settings, context: Context) -> ts.Quantization:
    return FAULTS["quantizer"]() if "quantizer" in FAULTS else ts.Quantization(name="rough", load_options={"bits": 4})


class Shifted(ts.Adapted):
    """The shift moves; it is kept as JSON, and merging adds it to the base."""

    def state(self) -> dict[str, Any]:
        return {"shift": self.model.shift.value}

    def load_state(self, tensors: Mapping[str, Any]) -> None:
        self.model.shift.value = tensors["shift"]

    def save(self, folder: Path) -> None:
        if "save" in FAULTS:
            FAULTS["save"]()
        (folder / "shift.json").write_text(json.dumps(self.model.shift.value))

    def load(self, folder: Path) -> None:
        if "load" in FAULTS:
            FAULTS["load"]()
        self.model.shift.value = json.loads((folder / "shift.json").read_text())

    def merge(self) -> Network:
        if "merge" in FAULTS:
            FAULTS["merge"]()
        return Network(self.model.value)

    @contextmanager
    def disabled(self) -> Iterator[Network]:
        yield Network(self.model.base.value)


@dataclass(frozen=True, kw_only=True)
class ShiftSettings(Settings):
    """Settings of `shift`."""

    rank: Annotated[int, Gt(0)] = 1
    """Changes nothing but the fingerprint."""
    frozen: bool = False
    """Whether nothing shall move."""


def shift(handle: ModelHandle, settings: ShiftSettings, context: Context) -> Shifted:
    if "adapter" in FAULTS:
        return FAULTS["adapter"]()
    handle.model.shift.requires_grad_(not settings.frozen)
    return Shifted(handle)


@dataclass(frozen=True, kw_only=True)
class PullSettings(Settings):
    """Settings of `pull`."""

    steps: Annotated[int, Gt(0)] = 4
    """Steps to take."""
    rate: Annotated[float, Gt(0)] = 0.5
    """Share of the way to 1 that one step goes."""
    arguments: dict[str, Any] | None = None
    """Arguments of the wrapped library."""


def pull(models: dict[str, ts.Adapted], data: ts.Dataset, settings: PullSettings, context: Context) -> ts.TrainResult:
    SEEN.append(("train", {name: type(adapted).__name__ for name, adapted in models.items()}))
    if "trainer" in FAULTS:
        return FAULTS["trainer"]()
    weight = next(iter(models.values())).model.shift
    base = next(iter(models.values())).model.base.value
    saved = context.stage_folder / "checkpoints"
    step = 0
    if context.resume and (newest := newest_good(saved, context.reporter.warn)):
        weight.value = json.loads((newest / "shift.json").read_text())
        step = checkpoint_step(newest)
    while step < settings.steps and not context.stop:
        weight.value += settings.rate * (1 - base - weight.value)
        step += 1
        context.reporter.progress(step, settings.steps, {"loss": abs(1 - base - weight.value)})
        value = json.dumps(weight.value)
        commit_folder(saved / f"step-{step:06d}", partial(_write, text=value))
        if "step" in FAULTS:
            FAULTS["step"](step, context)
    return ts.TrainResult(
        steps=step, total_steps=settings.steps, metrics={}, seconds=0.0, stopped=context.stop.signal_number
    )


def _write(folder: Path, text: str) -> None:
    (folder / "shift.json").write_text(text)


def distance(handle: ModelHandle, data: ts.Dataset, settings: Settings, context: Context) -> ts.Evaluation:
    if "evaluator" in FAULTS:
        return FAULTS["evaluator"]()
    SEEN.append(("evaluate", handle.model.value))
    value = abs(1 - handle.model.value)
    measure = ts.Measure(value=value, better="lower", low=value, high=value, n=len(data.validation))
    sample = ts.Sample(row=data.validation.ids[0], prompt="p", answer="a", reference="r")
    return ts.Evaluation(measures={"distance": measure}, samples=(sample,))


def against(handle: ModelHandle, data: ts.Dataset, settings: Settings, context: Context, models: Any) -> Any:
    found = {"reference": handle.model.value}
    for name, adapted in models.items():
        with adapted.use() as model:
            found[name] = model.value
    SEEN.append(("against", found))
    return {"ahead": ts.Measure(value=found["reference"] - handle.model.value, better="lower")}


@dataclass(frozen=True, kw_only=True)
class CopySettings(Settings):
    """Settings of `copy`."""

    path: Path
    """The file to write, relative to the recipe."""


def copy(artifact: Path, settings: CopySettings, context: Context) -> Path:
    if "exporter" in FAULTS:
        return FAULTS["exporter"]()
    path = context.path(settings.path)
    path.write_text((artifact / "shift.json").read_text())
    return path


def launch(plan: Any, settings: Settings, context: Context) -> int:
    return 0


def check(settings: Settings, folder: Path, device: str) -> Any:
    return FAULTS["check"](device) if "check" in FAULTS else None


@dataclass(frozen=True, kw_only=True)
class QuickSettings(Settings):
    """Settings of `quick`."""

    steps: int = 3
    """Steps of the trainer."""


def quick(settings: QuickSettings) -> dict[str, Any]:
    if "preset" in FAULTS:
        return FAULTS["preset"]()
    return {"adapter": {"use": "shift", "rank": 7}, "trainer": {"use": "pull", "steps": settings.steps, "rate": 0.25}}


DUO = (
    ts.Role(name="policy", trainable=True),
    ts.Role(name="reference", default="policy:disabled"),
    ts.Role(name="reward", head="scalar"),
    ts.Role(name="value", trainable=True, head="scalar", optional=True),
)


@hookimpl
def tunesmith_loaders() -> Iterator[ts.Loader]:
    yield ts.Loader(name="rows", summary="Rows", factory=load_rows, settings=RowsSettings, check=check)


@hookimpl
def tunesmith_models() -> Iterator[ts.Model]:
    yield ts.Model(name="toy", summary="A number", factory=load_toy, settings=ToySettings, claims=claims)
    yield ts.Model(name="never", summary="Claims nothing", factory=load_toy, settings=ToySettings)


@hookimpl
def tunesmith_quantizers() -> Iterator[ts.Quantizer]:
    yield ts.Quantizer(name="rough", summary="Rounds", factory=quantize)


@hookimpl
def tunesmith_adapters() -> Iterator[ts.Adapter]:
    yield ts.Adapter(name="shift", summary="Shifts", factory=shift, settings=ShiftSettings)
    yield ts.Adapter(name="distant", summary="Needs more", factory=shift, requires=("json", "no_such_library"))


@hookimpl
def tunesmith_trainers() -> Iterator[ts.Trainer]:
    yield ts.Trainer(
        name="pull", summary="Pulls to 1", factory=pull, settings=PullSettings, arguments="toy_arguments:Arguments"
    )
    yield ts.Trainer(name="duo", summary="Three roles", factory=pull, settings=PullSettings, roles=DUO)
    yield ts.Trainer(name="pairs", summary="Pairs only", factory=pull, accepts=("preference",), settings=PullSettings)


@hookimpl
def tunesmith_evaluators() -> Iterator[ts.Evaluator]:
    yield ts.Evaluator(name="distance", summary="How far from 1", factory=distance)
    roles = (ts.Role(name="reference"), ts.Role(name="judge", head="scalar", optional=True))
    yield ts.Evaluator(name="against", summary="Beside another model", factory=against, roles=roles)


@hookimpl
def tunesmith_exporters() -> Iterator[ts.Exporter]:
    yield ts.Exporter(name="copy", summary="Copies", factory=copy, settings=CopySettings)


@hookimpl
def tunesmith_launchers() -> Iterator[ts.Launcher]:
    yield ts.Launcher(name="here", summary="Runs here", factory=launch)


@hookimpl
def tunesmith_presets() -> Iterator[ts.Preset]:
    yield ts.Preset(name="quick", summary="Three steps", factory=quick, settings=QuickSettings)
