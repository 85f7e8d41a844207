"""Toy components in plain Python, so that the console's commands run whole recipes in milliseconds.

The model is one number; training moves it towards 1. The other console tests name this file in their recipes.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from tunesmith import (
    Adapted,
    Adapter,
    Context,
    DataError,
    Dataset,
    Evaluation,
    Evaluator,
    Gt,
    Loader,
    Measure,
    Model,
    ModelHandle,
    Preset,
    Records,
    Registry,
    Sample,
    Settings,
    Trainer,
    TrainResult,
    hookimpl,
)
from tunesmith.store import checkpoint_step, commit_folder, newest_good

MODULE = "tunesmith_local_test_console_toy"


# --- data -------------------------------------------------------------------------------------
@dataclass(frozen=True, kw_only=True)
class PairsSettings(Settings):
    """Settings of `pairs`."""

    path: Path
    """A file with one `prompt|completion` a line."""
    validation: Annotated[int, Gt(0)] = 2
    """How many rows are held out, from the end."""


def load_pairs(settings: PairsSettings, context: Context) -> Dataset:
    print("plugins print what they like")
    path = context.path(settings.path)
    if not path.is_file():
        raise DataError(f"there is no file {settings.path}", where=str(path))
    rows, ids, notes = [], [], 0
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        context.ledger.read()
        prompt, bar, completion = line.partition("|")
        if not bar:
            context.ledger.drop(f"{path.name}:{number}", "no bar between prompt and completion")
            continue
        completion, mark, _ = completion.partition(" # ")
        notes += bool(mark)
        rows.append({"prompt": prompt, "completion": completion})
        ids.append(f"{path.name}:{number}")
    cut = max(0, len(rows) - settings.validation)
    context.ledger.trained, context.ledger.held_out = cut, len(rows) - cut
    held = Records(rows[cut:], ids[cut:])
    return Dataset(
        type="prompt-completion",
        train=Records(rows[:cut], ids[:cut]),
        validation=held,
        recognised="pairs",
        unused={"comment": notes} if notes else {},
        notes=("a bar stands between prompt and completion",),
    )


# --- model ------------------------------------------------------------------------------------
class Weight:
    """One number that behaves like a parameter."""

    def __init__(self, value: float) -> None:
        self.value = value
        self.requires_grad = True

    def numel(self) -> int:
        return 1

    def requires_grad_(self, flag: bool) -> None:
        self.requires_grad = flag


class Ids(list[int]):
    """A list of token ids with the shape of a row."""

    @property
    def shape(self) -> tuple[int, int]:
        return (1, len(self))


class Network:
    """A model of one weight that answers with as many words as its weight is near 1."""

    device = "cpu"

    def __init__(self) -> None:
        self.weight = Weight(0.0)

    def eval(self) -> None:
        """It has no dropout to switch off."""

    def named_parameters(self) -> Iterator[tuple[str, Weight]]:
        yield "weight", self.weight

    def parameters(self) -> Iterator[Weight]:
        yield self.weight

    def answer(self, prompt: str) -> str:
        return f"{prompt} {self.weight.value:.2f}"

    def generate(self, input_ids: Ids, max_new_tokens: int, **options: Any) -> list[list[int]]:
        prompt = "".join(map(chr, input_ids))
        new = [ord(letter) for letter in self.answer(prompt)][:max_new_tokens]
        return [[*input_ids, *new]]


class Letters:
    """A tokenizer whose tokens are letters."""

    chat_template = None
    eos_token_id = 0
    pad_token_id = 0

    def __call__(self, text: str, return_tensors: str) -> dict[str, Ids]:
        return {"input_ids": Ids(map(ord, text))}

    def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
        return "".join(map(chr, ids))


@dataclass(frozen=True, kw_only=True)
class ToySettings(Settings):
    """Settings of `toy`."""

    source: str
    """Any name that begins with `toy:`."""


def load_model(settings: ToySettings, context: Context, head: str, load_options: dict[str, Any]) -> ModelHandle:
    return ModelHandle(model=Network(), tokenizer=Letters(), source=settings.source, digest="0" * 64, max_length=80)


def load_tokenizer(settings: ToySettings, context: Context) -> Letters:
    return Letters()


# --- adapter ----------------------------------------------------------------------------------
class Moved(Adapted):
    """The whole model moves; it is kept as JSON."""

    def save(self, folder: Path) -> None:
        (folder / "weight.json").write_text(json.dumps(self.model.weight.value))

    def load(self, folder: Path) -> None:
        self.model.weight.value = json.loads((folder / "weight.json").read_text())


def adapt(handle: ModelHandle, settings: Settings, context: Context) -> Moved:
    handle.model.weight.requires_grad_(True)
    return Moved(handle)


# --- trainer ----------------------------------------------------------------------------------
@dataclass(frozen=True, kw_only=True)
class PullSettings(Settings):
    """Settings of `pull`."""

    steps: Annotated[int, Gt(0)] = 4
    """How many steps to take."""
    rate: float = 0.5
    """Share of the way to 1 that one step goes."""
    fault: Literal["none", "raise", "signal"] = "none"
    """What goes wrong at step 2 of a run that was not resumed."""


def train(models: dict[str, Adapted], data: Dataset, settings: PullSettings, context: Context) -> TrainResult:
    weight = next(iter(models.values())).model.weight
    saved = context.stage_folder / "checkpoints"
    step = 0
    if context.resume and (newest := newest_good(saved, context.reporter.warn)):
        weight.value = json.loads((newest / "weight.json").read_text())
        step = checkpoint_step(newest)
    while step < settings.steps:
        weight.value += settings.rate * (1 - weight.value)
        step += 1
        loss = 1 - weight.value
        context.reporter.progress(
            step, settings.steps, {"loss": loss, "learning_rate": settings.rate, "tokens_per_second": 100.0}
        )
        commit_folder(saved / f"step-{step:06d}", Moved(next(iter(models.values())).handle).save)
        if step == 2 and not context.resume:
            if settings.fault == "raise":
                raise ZeroDivisionError("planted")
            if settings.fault == "signal":
                os.kill(os.getpid(), signal.SIGTERM)
        if context.stop:
            break
    stopped = context.stop.signal_number
    return TrainResult(
        steps=step, total_steps=settings.steps, metrics={}, seconds=0.01, tokens=100 * step, stopped=stopped
    )


def preview(
    rows: Records, record_type: str, settings: PullSettings, tokenizer: Letters
) -> list[list[tuple[str, bool]]]:
    return [[*((letter, False) for letter in row["prompt"]), (row["completion"], True)] for _, row in rows]


# --- evaluator --------------------------------------------------------------------------------
@dataclass(frozen=True, kw_only=True)
class DistanceSettings(Settings):
    """Settings of `distance`."""

    scale: float = 1.0
    """What the distance is multiplied by."""


def distance(handle: ModelHandle, data: Dataset, settings: DistanceSettings, context: Context) -> Evaluation:
    value = settings.scale * (1 - handle.model.weight.value)
    measure = Measure(value=value, better="lower", low=value - 0.01, high=value + 0.01, n=len(data.validation))
    samples = tuple(
        Sample(
            row=name,
            prompt=row["prompt"],
            answer=handle.model.answer(row["prompt"]),
            reference=row.get("completion", ""),
        )
        for name, row in data.validation
    )
    after_it = Measure(value=value, better="lower", n=1, unit="%")  # a name before "distance" in the alphabet
    return Evaluation(measures={"distance": measure, "a-copy": after_it}, samples=samples)


def preset(settings: Settings) -> dict[str, Any]:
    return {"adapter": {"use": "move"}, "trainer": {"use": "pull", "steps": 3}}


# --- hooks ------------------------------------------------------------------------------------
@hookimpl
def tunesmith_loaders() -> Iterator[Loader]:
    yield Loader(name="pairs", summary="Lines of prompt|completion", factory=load_pairs, settings=PairsSettings)


@hookimpl
def tunesmith_models() -> Iterator[Model]:
    yield Model(
        name="toy",
        summary="A model of one number",
        factory=load_model,
        settings=ToySettings,
        claims=lambda source, folder: 9 if source.startswith("toy:") else 0,
        tokenizer=f"{MODULE}:load_tokenizer",
    )


@hookimpl
def tunesmith_adapters() -> Iterator[Adapter]:
    yield Adapter(name="move", summary="Moves the number", factory=adapt)
    yield Adapter(name="distant", summary="Needs what nobody has", factory=adapt, requires=("no_such_package",))


@hookimpl
def tunesmith_trainers() -> Iterator[Trainer]:
    yield Trainer(
        name="pull",
        summary="Pulls the number to 1",
        factory=train,
        settings=PullSettings,
        accepts=("prompt-completion",),
        preview=f"{MODULE}:preview",
    )
    yield Trainer(
        name="blind",
        summary="As pull, without a preview",
        factory=train,
        settings=PullSettings,
        check=lambda settings, folder, device: [f"trains blindly on {device}"],
    )


@hookimpl
def tunesmith_evaluators() -> Iterator[Evaluator]:
    yield Evaluator(name="distance", summary="How far from 1", factory=distance, settings=DistanceSettings)


@hookimpl
def tunesmith_presets() -> Iterator[Preset]:
    yield Preset(name="quick", summary="Three steps", factory=preset)


def test_the_toy_is_a_valid_plugin() -> None:
    registry = Registry()
    registry.add_file(Path(__file__))
    assert not registry.problems
    assert len(registry.entries()) == 8
