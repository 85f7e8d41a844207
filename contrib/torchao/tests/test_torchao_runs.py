"""Whole runs over quantized bases, and of quantization-aware training: resumed, loaded again, converted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tunesmith import Context, MissingError
from tunesmith.artifact import load_artifact
from tunesmith.stage import evaluate, load_data
from tunesmith_torchao.tensors import PackedInt4Tensor

INT4 = 'quantizer={use="torchao-int4",group_size=32}'
INT8 = 'quantizer={use="torchao-int8"}'
WHOLE = 'adapter={use="qat",group_size=16}'
LOW = 'adapter={use="qat",group_size=16,rank=4}'


def measured_again(house: Any, run: Any) -> tuple[Any, dict[str, Any]]:
    """The model that an artifact gives back, and what the run's own evaluators measure of it."""
    context = Context(device="cpu", folder=house.folder)
    stage = run.plan.stage("main")
    adapted = load_artifact(run.folder / "artifact", house.make_registry(), context)
    handle = replace(adapted.handle, model=adapted.model)
    return adapted, evaluate(stage.evaluators, handle, load_data(stage, context), context)["measures"]


def tensors(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (run / "artifact").glob("*.safetensors")}


@pytest.mark.parametrize(("quantizer", "bits"), [(INT4, 5.25), (INT8, 8 + 40 * 13 / 14 / 32 + 40 / 14 / 64)])
def test_lora_learns_over_quantized_weights_and_its_artifact_gives_the_model_back(
    house: Any, quantizer: str, bits: float
) -> None:
    run = house.run(quantizer, "trainer.max_steps=20")
    result = run.results["main"]
    assert result.after["measures"]["perplexity"]["value"] < 0.7 * result.before["measures"]["perplexity"]["value"]
    assert result.facts["quantization"]["bits_a_parameter"] == pytest.approx(bits, rel=0.02)
    adapted, measures = measured_again(house, run)
    assert measures == result.after["measures"]
    assert adapted.handle.quantized == result.facts["quantization"]["quantizer"]
    (saved,) = tensors(run.folder).values()
    assert len(saved) < 60_000  # the adapter alone


@pytest.mark.parametrize("sets", [(INT4,), (INT8,), (WHOLE,), (LOW,)], ids=["int4", "int8", "qat", "qat-low-rank"])
def test_a_stopped_run_resumes_to_the_same_bits(house: Any, sets: tuple[str, ...]) -> None:
    whole, part = house.run(*sets), house.stopped(3, *sets)
    house.resume(part)
    assert tensors(part) == tensors(whole.folder)


@pytest.mark.parametrize("adapter", [WHOLE, LOW], ids=["full", "low-rank"])
def test_an_artifact_of_qat_reproduces_its_evaluation(house: Any, adapter: str) -> None:
    run = house.run(adapter, "trainer.max_steps=10", "trainer.learning_rate=0.003")
    result = run.results["main"]
    assert result.after["measures"]["perplexity"]["value"] < result.before["measures"]["perplexity"]["value"]
    assert measured_again(house, run)[1] == result.after["measures"]


def test_an_artifact_of_qat_in_int4_is_the_model_that_was_trained(house: Any) -> None:
    run = house.run(WHOLE, "trainer.max_steps=10", "trainer.learning_rate=0.003")
    sets = (f'model.source="{run.folder / "artifact"}"', 'quantizer={use="torchao-int4",group_size=16}')
    served = house.run(*sets, "trainer.max_steps=1")
    assert served.results["main"].before["measures"] == run.results["main"].after["measures"]
    adapted, _ = measured_again(house, served)
    assert any(isinstance(p.data, PackedInt4Tensor) for p in adapted.model.parameters())


def test_without_torchao_the_plan_says_what_to_install(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunesmith.registry.importable", lambda name: name != "torchao")
    with pytest.raises(MissingError, match=r"torchao-int4.*torchao") as caught:
        house.run(INT4)
    assert "pip install" in str(caught.value.fix)
    assert not (house.folder / "runs").exists()
