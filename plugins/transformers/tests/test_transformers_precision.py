"""In which type weights are trained, and which device a plan expects."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from tunesmith import Adapted, Context, ModelHandle, RecipeError
from tunesmith.context import SilentReporter
from tunesmith.plan import make_plan
from tunesmith.recipe import read
from tunesmith.run import start
from tunesmith_transformers.loading import device_facts as foresee
from tunesmith_transformers.training.precision import check_trained

FULL = ("adapter={use='full'}", "trainer.max_steps=1", "trainer.save_steps=1", "evaluate=[]")


class Heard(SilentReporter):
    """A reporter that keeps the warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, message: str) -> None:
        self.warnings.append(message)


def warnings_of(house: Any, *sets: str) -> list[str]:
    registry, heard = house.make_registry(), Heard()
    start(make_plan(read(house.folder / "recipe.toml", sets), registry), registry, heard)
    return [warning for warning in heard.warnings if "bfloat16" in warning]


def test_a_run_warns_of_weights_that_are_trained_in_bfloat16(house: Any) -> None:
    (warning,) = warnings_of(house, "model.dtype=bfloat16", *FULL)
    assert warning.startswith("21 of 21 trained tensors are held in bfloat16, such as model.embed_tokens.weight")
    assert 'dtype = "float32" in [model] keeps them' in warning


def test_low_rank_updates_beside_bfloat16_weights_are_float32(house: Any) -> None:
    assert warnings_of(house, "model.dtype=bfloat16", *FULL[1:]) == []


def test_weights_in_float16_are_not_trained(house: Any) -> None:
    with pytest.raises(RecipeError, match="'full' would train weights of the model in float16") as caught:
        house.run("model.dtype=float16", *FULL)
    assert 'dtype = "float32"' in str(caught.value.fix)
    assert caught.value.where


def test_weights_that_turn_out_to_be_float16_are_not_trained(tiny_handle: ModelHandle) -> None:
    adapted = Adapted(tiny_handle)
    tiny_handle.model.half().requires_grad_(True)
    with pytest.raises(RecipeError, match=r"embed_tokens\.weight would be trained in float16") as caught:
        check_trained(adapted, Context())
    assert "21 of 21 trained tensors" in caught.value.details[0]


@pytest.mark.parametrize(("more", "refused"), [("", False), (',modules_to_save=["norm"]', True)])
def test_modules_in_full_are_float16_and_low_rank_updates_are_not(house: Any, more: str, refused: bool) -> None:
    sets = ("model.dtype=float16", f'adapter={{use="lora",rank=4{more}}}')
    with pytest.raises(RecipeError, match="float16") if refused else nullcontext():
        make_plan(read(house.folder / "recipe.toml", sets), house.make_registry())


@pytest.mark.parametrize(
    ("visible", "expected"), [(None, "cuda"), ("0", "cuda"), ("0,1", "cuda"), ("", "cpu"), (" ", "cpu"), ("-1", "cpu")]
)
def test_a_gpu_that_is_hidden_is_not_expected(
    visible: str | None, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foresee, "GPU_SIGNS", (tmp_path,))
    monkeypatch.setattr(foresee, "torch_has_cuda", lambda: True)
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert foresee.expected_device("auto") == expected
    assert foresee.expected_device("cuda:0") == "cuda"
