"""Whole runs under the supervised trainer: from recipe to artifact, stopped and resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tunesmith import Context
from tunesmith.artifact import load_artifact

ADAPTERS = ["houlsby", "pfeiffer"]


def adapter(use: str, dropout: float = 0.1) -> str:
    return f'adapter={{use="{use}",bottleneck=8,dropout={dropout}}}'


def weights(run: Path) -> bytes:
    return (run / "artifact" / "adapter.safetensors").read_bytes()


@pytest.mark.parametrize("use", ADAPTERS)
def test_a_run_learns_and_its_artifact_gives_the_model_back(house: Any, use: str) -> None:
    run = house.run(adapter(use), "trainer.max_steps=20")
    result = run.results["main"]
    before, after = (side["measures"]["perplexity"]["value"] for side in (result.before, result.after))
    assert after < 0.7 * before
    kept = {path.name for path in (run.folder / "artifact").iterdir()}
    assert {"adapter.safetensors", "bottleneck_config.json", "tunesmith.json", "README.md"} <= kept
    context = Context(device="cpu", folder=house.folder)
    first, second = (load_artifact(run.folder / "artifact", house.make_registry(), context) for _ in range(2))
    ids = torch.tensor([[5, 6, 7]])
    assert torch.equal(first.model(ids).logits, second.model(ids).logits)
    with first.disabled() as base:
        assert not torch.equal(base(ids).logits, second.model(ids).logits)


@pytest.mark.parametrize("step", [1, 3])
@pytest.mark.parametrize("use", ADAPTERS)
def test_a_stopped_run_resumes_to_the_same_bits(house: Any, use: str, step: int) -> None:
    whole = house.run(adapter(use))
    part = house.stopped(step, adapter(use))
    house.resume(part)
    assert weights(part) == weights(whole.folder)


@pytest.mark.parametrize("use", ADAPTERS)
def test_activation_checkpointing_trains_the_same_bits(house: Any, use: str) -> None:
    plain = house.run(adapter(use, dropout=0.0), "trainer.max_steps=2")
    saving = house.run(adapter(use, dropout=0.0), "trainer.max_steps=2", "trainer.activation_checkpointing=true")
    assert weights(saving.folder) == weights(plain.folder)
