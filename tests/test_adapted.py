"""The default handle of an adapted model, on torch modules of a few numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tunesmith import Adapted, DataError, ModelHandle, ModuleAdapted, TunesmithError
from tunesmith.adapted import WEIGHTS, DisabledView


def handle(trained: tuple[str, ...] = ("1.weight", "1.bias")) -> ModelHandle:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in trained)
    return ModelHandle(model=model, tokenizer=None, source="test", digest="0" * 64)


def change(adapted: Adapted) -> None:
    with torch.no_grad():
        for parameter in adapted.trainable().values():
            parameter.add_(1)


def test_what_requires_gradients_is_trained_and_kept() -> None:
    adapted = Adapted(handle())
    assert list(adapted.trainable()) == ["1.weight", "1.bias"]
    assert {name: tuple(tensor.shape) for name, tensor in adapted.state().items()} == {
        "1.weight": (2, 4),
        "1.bias": (2,),
    }
    assert not any(tensor.requires_grad for tensor in adapted.state().values())


def test_saving_and_loading_gives_the_same_bits(tmp_path: Path) -> None:
    adapted = Adapted(handle())
    change(adapted)
    adapted.save(tmp_path)
    other = Adapted(handle())
    parameters = [id(parameter) for parameter in other.model.parameters()]
    other.load(tmp_path)
    for name, tensor in adapted.state().items():
        assert torch.equal(other.state()[name], tensor)
    assert [id(parameter) for parameter in other.model.parameters()] == parameters, "optimizers hold these objects"


def test_what_is_no_tensor_is_kept_as_well(tmp_path: Path) -> None:
    class Ranked(Adapted):
        def __init__(self, handle: ModelHandle) -> None:
            super().__init__(handle)
            self.ranks: dict[str, Any] = {}

        def extra_state(self) -> dict[str, Any]:
            return {"ranks": {"q": 3}}

        def load_extra_state(self, extra: Any) -> None:
            self.ranks = extra["ranks"]

    Ranked(handle()).save(tmp_path)
    again = Ranked(handle())
    again.load(tmp_path)
    assert again.ranks == {"q": 3}


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"no adapter weights at .*{WEIGHTS}"):
        Adapted(handle()).load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not safetensors at all", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_a_damaged_file_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / WEIGHTS).write_bytes(content)
    with pytest.raises(DataError):
        Adapted(handle()).load(tmp_path)


def test_tensors_that_do_not_fit_are_named_and_nothing_is_changed() -> None:
    adapted = Adapted(handle())
    before = {name: tensor.clone() for name, tensor in adapted.state().items()}
    wanted = {name: torch.ones_like(tensor) for name, tensor in before.items()}
    with pytest.raises(DataError, match="does not fit") as caught:
        adapted.load_state({"1.bias": wanted["1.bias"], "other": wanted["1.bias"]})
    assert caught.value.details == ("missing: 1.weight", "unknown: other")
    with pytest.raises(DataError, match=r"1.bias is \(3,\), expected \(2,\)"):
        adapted.load_state({**wanted, "1.bias": torch.ones(3)})
    for name, tensor in before.items():
        assert torch.equal(adapted.state()[name], tensor)


def test_what_a_method_does_not_offer_is_said() -> None:
    adapted = Adapted(handle())
    with pytest.raises(TunesmithError, match="Adapted cannot be merged"):
        adapted.merge()
    with pytest.raises(TunesmithError, match="Adapted cannot be disabled"), adapted.disabled():
        pass
    assert adapted.extra_loss() is None
    assert adapted.parameter_groups(0.1) is None
    assert adapted.extra_state() == {}
    with adapted.use() as model:
        assert model is adapted.model


def test_a_plain_module_is_disabled_by_its_initial_values() -> None:
    adapted = ModuleAdapted(handle())
    before = {name: tensor.clone() for name, tensor in adapted.model.state_dict().items()}
    change(adapted)
    after = {name: tensor.clone() for name, tensor in adapted.model.state_dict().items()}
    seen: dict[str, torch.Tensor] = {}

    def look_and_fail() -> None:
        with adapted.disabled() as model:
            seen.update({name: tensor.clone() for name, tensor in model.state_dict().items()})
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        look_and_fail()
    assert all(torch.equal(tensor, before[name]) for name, tensor in seen.items())
    assert set(seen) == set(before)
    assert all(torch.equal(tensor, after[name]) for name, tensor in adapted.model.state_dict().items())
    assert not torch.equal(before["1.bias"], after["1.bias"])


def test_a_view_trains_nothing_and_shows_the_base() -> None:
    adapted = ModuleAdapted(handle())
    before = adapted.model[1].bias.detach().clone()
    change(adapted)
    view = DisabledView(adapted)
    assert view.trainable() == {}
    assert view.model is adapted.model
    with view.use() as model:
        assert torch.equal(model[1].bias, before)
    assert torch.equal(adapted.model[1].bias, before + 1)


def test_a_wrapped_model_is_the_one_that_trainers_call() -> None:
    made = handle()
    wrapper = nn.Sequential(made.model)
    adapted = Adapted(made, wrapper)
    assert adapted.model is wrapper
    assert list(adapted.trainable()) == ["0.1.weight", "0.1.bias"]
