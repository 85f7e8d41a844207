"""Strangers' code: what it raises is named, the machine's limits become clear errors."""

from __future__ import annotations

import random
import sys
from types import SimpleNamespace

import pytest

from tunesmith import Adapter, DataError, DiskError, MemoryExhausted, PluginError
from tunesmith.guard import guarded, message_of, seed_everything, wrong_type

USE = SimpleNamespace(
    component=Adapter(name="mine", summary="s", factory="a:b"), distribution="tunesmith-mine", version="1.2"
)


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even that")


def raise_in_guard(error: BaseException) -> None:
    with guarded(USE):
        raise error


@pytest.mark.parametrize("error", [ValueError("x"), SystemExit("x"), BaseException("x"), GeneratorExit("x")])
def test_anything_becomes_an_error_that_names_the_plugin(error: BaseException) -> None:
    with pytest.raises(PluginError) as caught:
        raise_in_guard(error)
    assert caught.value.what == f"adapter 'mine' of tunesmith-mine 1.2 failed: {type(error).__name__}: x"
    assert caught.value.where is not None
    assert caught.value.where.startswith(__file__)
    assert caught.value.__cause__ is error


def test_an_exception_that_cannot_even_be_shown() -> None:
    with pytest.raises(PluginError, match=r"Mute: \(its message cannot be shown: RuntimeError\)"):
        raise_in_guard(Mute())
    assert message_of(Mute()) == "(its message cannot be shown: RuntimeError)"


def test_the_person_s_own_interrupt_and_clear_errors_pass() -> None:
    with pytest.raises(KeyboardInterrupt):
        raise_in_guard(KeyboardInterrupt())
    error = DataError("row 3")
    with pytest.raises(DataError) as caught:
        raise_in_guard(error)
    assert caught.value is error


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        MemoryError("Unable to allocate 3 GiB"),
        RuntimeError("CUDA out of memory.\nTried to allocate"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        OSError(12, "Cannot allocate memory"),
    ],
)
def test_out_of_memory_names_the_settings_to_change(error: Exception) -> None:
    with pytest.raises(MemoryExhausted, match="out of memory in adapter 'mine'") as caught:
        raise_in_guard(error)
    assert "\n" not in caught.value.what
    assert "batch_size" in str(caught.value)
    assert caught.value.exit_code == 71


def test_a_full_disk_is_a_disk_error_even_when_it_is_wrapped() -> None:
    with pytest.raises(DiskError, match="cannot write /x/y: No space left on device"):
        raise_in_guard(OSError(28, "No space left on device", "/x/y"))
    wrapped = RuntimeError("serialization failed")
    wrapped.__cause__ = OSError(28, "No space left on device")
    with pytest.raises(DiskError, match="cannot write a file: No space left"):
        raise_in_guard(wrapped)
    with pytest.raises(PluginError):
        raise_in_guard(FileNotFoundError(2, "No such file", "/x"))


def test_what_is_returned_is_held_to_the_contract() -> None:
    error = wrong_type(USE, "Adapted", 3)
    assert error.what == "adapter 'mine' of tunesmith-mine 1.2 returned int; the contract says Adapted"


def test_every_generator_in_use_is_seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, int]] = []
    fake_numpy = SimpleNamespace(random=SimpleNamespace(seed=lambda seed: seen.append(("numpy", seed))))
    fake_torch = SimpleNamespace(manual_seed=lambda seed: seen.append(("torch", seed)))
    monkeypatch.setitem(sys.modules, "numpy", fake_numpy)
    monkeypatch.setitem(sys.modules, "torch", fake_torch)
    seed_everything(5)
    first = random.random()
    seed_everything(5)
    assert random.random() == first
    assert seen == [("numpy", 5), ("torch", 5)] * 2
