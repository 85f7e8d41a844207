"""What is measured before training: the base model, wherever the adapter has already been put into it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from tunesmith import Adapted, Adapter, Context, ModelHandle, Settings
from tunesmith.context import SilentReporter
from tunesmith.plan import Use
from tunesmith.roles import Roles, untrained
from tunesmith.views import EarlierView


class Heard(SilentReporter):
    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, message: str) -> None:
        self.warnings.append(message)


class Switchable(Adapted):
    @contextmanager
    def disabled(self) -> Iterator[Any]:
        yield "the base"


def handle(model: str, max_length: int) -> ModelHandle:
    return ModelHandle(model=model, tokenizer=None, source="", digest="", max_length=max_length)


def use(*, identity: bool) -> Use:
    record = Adapter(name="mine", summary="A toy.", factory=SimpleNamespace, identity=identity)
    return Use(record, "mine", "toy", "1", Settings())


@pytest.mark.parametrize(
    ("made", "adapter", "model", "max_length", "warned"),
    [
        (Switchable, use(identity=False), "the base", 8, 0),
        (Adapted, use(identity=True), "adapted", 8, 0),
        (Adapted, use(identity=False), "adapted", 6, 1),
        (Adapted, None, "adapted", 8, 0),
    ],
)
def test_a_new_adapter_is_left_out_of_what_is_measured_first(
    made: type[Adapted], adapter: Use | None, model: str, max_length: int, warned: int
) -> None:
    heard = Heard()
    roles = Roles({"model": made(handle("adapted", 6))}, base=handle("adapted", 8))
    with untrained(roles, adapter, Context(reporter=heard)) as found:
        assert (found.model, found.max_length) == (model, max_length)
    assert len(heard.warnings) == warned
    assert all("adapter 'mine' cannot be disabled" in warning for warning in heard.warnings)


def test_an_earlier_view_keeps_what_a_stage_began_with() -> None:
    weight = torch.nn.Linear(2, 1)
    adapted = Adapted(handle("adapted", 6), weight)
    began = {name: parameter.detach().clone() for name, parameter in weight.named_parameters()}
    view = EarlierView(adapted)
    assert view.trainable() == {}
    with torch.no_grad():
        weight.weight.add_(1.0)
    with view.use() as model:
        assert model is weight
        assert all(torch.equal(p, began[name]) for name, p in weight.named_parameters())
    assert torch.equal(weight.weight, began["weight"] + 1.0)


def test_what_an_earlier_stage_left_is_measured_with_its_adapter() -> None:
    roles = Roles({"model": Switchable(handle("adapted", 6))})
    with untrained(roles, None, Context()) as found:
        assert (found.model, found.max_length) == ("adapted", 6)
