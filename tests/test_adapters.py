"""Many adapters on one base: each answers as it does alone, and the base stays what it is."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tunesmith import Adapted, Adapters, Context, DataError, Registry, UsageError
from tunesmith.adapted import ModelHandle
from tunesmith.artifact import CARD, Line, adapt, commit, load_artifact, load_base
from tunesmith.plan import Use
from tunesmith.spec import Adapter
from tunesmith.store import DIGESTS, digests_of
from tunesmith.testing.checks_listing import module_of
from tunesmith.testing.tiny import tiny_handle

IDS = torch.arange(24).reshape(2, 12) * 7 % 250


def shelf() -> list[tuple[str, Use]]:
    """Every installed adapter with each of the settings that its plugin gives the kit."""
    registry = Registry.discover()
    found = []
    for entry in registry.entries("adapter"):
        examples = getattr(module_of(entry.plugin, registry), "tunesmith_examples", {}).get(entry.component.name, [{}])
        for number, table in enumerate([examples] if isinstance(examples, dict) else examples):
            use = Use(
                entry.component,
                entry.qualified,
                entry.plugin.distribution,
                entry.plugin.version,
                entry.component.settings(**table),
            )
            found.append((f"{entry.component.name}-{number}", use))
    return found


SHELF = shelf()


def make(use: Use, context: Context, seed: int) -> tuple[Callable[[ModelHandle], Adapted], Callable[[Adapted], None]]:
    """Put an adapter on a handle and move its parameters, as training would."""

    def made(handle: ModelHandle) -> Adapted:
        return adapt(handle, use, context)

    def move(adapted: Adapted) -> None:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in adapted.trainable().values():
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)

    return made, move


def answers(adapted: Adapted) -> torch.Tensor:
    columns = {
        name: torch.tensor([column.examples[0], column.examples[-1]]) for name, column in adapted.handle.columns.items()
    }
    adapted.model.eval()
    with torch.no_grad():
        return adapted.model(input_ids=IDS, attention_mask=torch.ones_like(IDS), **columns).logits[:, -12:].clone()


def frozen() -> ModelHandle:
    handle = tiny_handle()
    handle.model.requires_grad_(False)
    return handle


@pytest.fixture
def handle() -> ModelHandle:
    return frozen()


def bits(handle: ModelHandle) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in handle.model.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_every_adapter_of_the_shelf_on_one_base_answers_as_it_does_alone(handle: ModelHandle, context: Context) -> None:
    alone = {}
    for number, (name, use) in enumerate(SHELF):
        made, move = make(use, context, number)
        adapted = made(frozen())
        move(adapted)
        alone[name] = answers(adapted)
    before, plain = bits(handle), answers(Adapted(handle))
    adapters = Adapters(handle)
    for number, (name, use) in enumerate(SHELF):
        adapters.attach(name, *make(use, context, number))
    assert len(adapters.names) == len(SHELF) > 10
    for name in (*reversed(adapters.names), *adapters.names[::3]):
        assert torch.equal(answers(adapters.switch(name)), alone[name]), name
    assert torch.equal(answers(adapters.switch(None)), plain)
    assert same(bits(handle), before)


@pytest.mark.parametrize(("name", "use"), SHELF, ids=[name for name, _ in SHELF])
def test_an_adapter_trains_on_after_another_one_was_active(
    handle: ModelHandle, context: Context, name: str, use: Use
) -> None:
    made, move = make(use, context, 1)

    def train(adapted: Adapted, steps: int) -> None:
        moving = list(adapted.trainable().values())
        columns = {key: torch.tensor([c.examples[0]] * 2) for key, c in adapted.handle.columns.items()}
        for _ in range(steps):
            torch.manual_seed(0)
            adapted.model.train()
            loss = adapted.model(input_ids=IDS, labels=IDS, attention_mask=torch.ones_like(IDS), **columns).loss
            gradients = torch.autograd.grad(loss, moving, allow_unused=True)
            with torch.no_grad():
                for parameter, gradient in zip(moving, gradients, strict=True):
                    parameter.sub_(gradient * 0.1) if gradient is not None else None

    alone = made(frozen())
    move(alone)
    train(alone, 2)
    adapters = Adapters(handle)
    before = bits(handle)
    adapted = adapters.attach("a", made, move)
    train(adapted, 1)
    adapters.attach("b", *make(SHELF[0][1], context, 2))
    train(adapters.switch("a"), 1)
    assert torch.equal(answers(adapters.current), answers(alone))
    with adapters.using(None):
        assert same(bits(handle), before)
    assert adapters.active == "a"
    assert torch.equal(answers(adapters.current), answers(alone))


def lora() -> Use:
    return next(use for _, use in SHELF if use.component.name == "lora")


def test_the_base_is_in_memory_once(handle: ModelHandle, context: Context) -> None:
    adapters = Adapters(handle)
    storages = {p.data_ptr() for p in handle.model.parameters()}
    for name in ("a", "b"):
        adapted = adapters.attach(name, *make(lora(), context, 3))
        held = {p.data_ptr() for p in adapted.model.parameters()}
        assert storages <= held
        assert sum(p.numel() for p in adapted.model.parameters() if p.data_ptr() not in storages) == sum(
            p.numel() for p in adapted.trainable().values()
        )


def test_an_adapter_that_cannot_be_made_leaves_the_set_as_it_was(handle: ModelHandle, context: Context) -> None:
    adapters = Adapters(handle)
    first = answers(adapters.attach("a", *make(lora(), context, 4)))
    made, _ = make(lora(), context, 5)

    def fails(adapted: Adapted) -> None:
        raise DataError("cut short")

    with pytest.raises(DataError, match="cut short"):
        adapters.attach("b", made, fails)
    assert adapters.names == ("a",)
    assert adapters.active is None
    assert torch.equal(answers(adapters.current), answers(Adapted(frozen())))
    assert torch.equal(answers(adapters.switch("a")), first)


def test_names_are_checked(handle: ModelHandle, context: Context) -> None:
    adapters = Adapters(handle)
    adapters.attach("support", *make(lora(), context, 6))
    with pytest.raises(UsageError, match="already"):
        adapters.attach("support", *make(lora(), context, 6))
    with pytest.raises(UsageError) as error:
        adapters.switch("suport")
    assert "Did you mean 'support'?" in str(error.value.fix)


# --- artifacts ------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def installed() -> Registry:
    registry = Registry.discover()
    return registry


@pytest.fixture
def artifacts(tmp_path: Path, tiny_folder: Path, installed: Registry, context: Context) -> dict[str, Path]:
    """Artifacts of adapters over the tiny model in a folder, their parameters moved."""
    entry = installed.find("model", "directory", where="test")
    source = Use(
        entry.component,
        entry.qualified,
        entry.plugin.distribution,
        entry.plugin.version,
        entry.component.settings(source=str(tiny_folder)),  # type: ignore[call-arg]
    )
    kept = {}
    for number, (name, use) in enumerate(SHELF):
        if not name.endswith("-0"):
            continue
        line = Line("causal-lm", tmp_path, source, None, use)
        made, move = make(use, context, number)
        adapted = made(load_base(replace(line, adapter=None), installed, context))
        move(adapted)
        kept[name] = commit(tmp_path / name, line, adapted, {"run": name, "stage": "main"}, "# card\n")
    return kept


def test_artifacts_of_every_adapter_are_loaded_on_one_base(
    artifacts: dict[str, Path], installed: Registry, context: Context
) -> None:
    assert len(artifacts) > 10
    names = list(artifacts)
    adapters = Adapters.open(artifacts[names[0]], installed, context, name=names[0])
    for name in names[1:]:
        adapters.load(name, artifacts[name], installed, context)
    for name in reversed(names):
        gc.collect()
        alone = load_artifact(artifacts[name], installed, context)
        assert torch.equal(answers(adapters.switch(name)), answers(alone)), name


def test_an_adapter_of_another_base_is_refused(
    artifacts: dict[str, Path], installed: Registry, context: Context
) -> None:
    adapters = Adapters.open(artifacts["lora-0"], installed, context)
    card = json.loads((artifacts["loha-0"] / CARD).read_text())
    card["base"]["digest"] = "0" * 64
    (artifacts["loha-0"] / CARD).write_text(json.dumps(card))
    (artifacts["loha-0"] / DIGESTS).write_text(json.dumps(digests_of(artifacts["loha-0"])))
    with pytest.raises(DataError, match="made for another base") as error:
        adapters.load("other", artifacts["loha-0"], installed, context)
    assert "0000000000000000" in str(error.value.details)
    assert adapters.active == "main"


def test_the_shelf_holds_adapters_only() -> None:
    assert all(isinstance(use.component, Adapter) for _, use in SHELF)
