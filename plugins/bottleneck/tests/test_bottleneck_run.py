"""Whole runs on the tiny model: from recipe to artifact, stopped and resumed."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

import tunesmith_bottleneck
import tunesmith_data
import tunesmith_sft
import tunesmith_transformers
from tunesmith import Context, Registry, Stopped, hookimpl
from tunesmith.artifact import load_artifact
from tunesmith.context import SilentReporter
from tunesmith.plan import make_plan
from tunesmith.recipe import read
from tunesmith.run import Run, resume, start

ADAPTERS = ["houlsby", "pfeiffer"]


def registry(*observers: Any) -> Registry:
    made = Registry()
    for module in (tunesmith_data, tunesmith_bottleneck, tunesmith_sft, tunesmith_transformers):
        made.add(module, distribution=module.__name__.replace("_", "-"), version="0.1.0")
    for observer in observers:
        made.add(observer, name="test-observer")
    assert not made.problems
    return made


class StopAt:
    """An observer that asks this process to stop after a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    @hookimpl
    def tunesmith_step(self, step: int) -> None:
        if step == self.step:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture
def recipe(tmp_path: Path, tiny_folder: Path) -> Path:
    rows = [{"prompt": f"{a}+{b}=", "completion": str(a + b)} for a in range(8) for b in range(6)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "recipe.toml"
    path.write_text(
        f"""
        [run]
        folder = {json.dumps(str(tmp_path / "runs"))}
        device = "cpu"
        [model]
        source = {json.dumps(str(tiny_folder))}
        [data]
        use = "jsonl"
        path = "rows.jsonl"
        validation = 0.25
        [adapter]
        use = "houlsby"
        bottleneck = 8
        dropout = 0.1
        [trainer]
        use = "sft"
        learning_rate = 0.01
        batch_size = 4
        max_steps = 6
        save_steps = 2
        [[evaluate]]
        use = "perplexity"
        """
    )
    return path


def run(recipe: Path, *sets: str, observers: tuple[Any, ...] = ()) -> Run:
    here = registry(*observers)
    return start(make_plan(read(recipe, sets), here), here, SilentReporter())


@pytest.mark.parametrize("use", ADAPTERS)
def test_a_run_learns_and_its_artifact_gives_the_model_back(recipe: Path, use: str) -> None:
    done = run(recipe, f'adapter.use="{use}"', "trainer.max_steps=20")
    result = done.results["main"]
    before, after = (side["measures"]["perplexity"]["value"] for side in (result.before, result.after))
    assert after < 0.7 * before
    kept = {path.name for path in (done.folder / "artifact").iterdir()}
    assert {"adapter.safetensors", "bottleneck_config.json", "tunesmith.json", "README.md"} <= kept
    context = Context(device="cpu", folder=recipe.parent)
    first, second = (load_artifact(done.folder / "artifact", registry(), context) for _ in range(2))
    ids = torch.tensor([[5, 6, 7]])
    assert torch.equal(first.model(ids).logits, second.model(ids).logits)
    with first.disabled() as base:
        assert not torch.equal(base(ids).logits, second.model(ids).logits)


@pytest.mark.parametrize("use", ADAPTERS)
def test_a_stopped_run_resumes_to_the_same_bits(recipe: Path, use: str) -> None:
    whole = run(recipe, f'adapter.use="{use}"')
    with pytest.raises(Stopped):
        run(recipe, f'adapter.use="{use}"', observers=(StopAt(3),))
    part = max((recipe.parent / "runs").iterdir(), key=lambda path: path.name)
    assert json.loads((part / "state.json").read_text())["status"] == "stopped"
    resume(part, registry(), SilentReporter())
    contents = [(folder / "artifact" / "adapter.safetensors").read_bytes() for folder in (whole.folder, part)]
    assert contents[0] == contents[1]


@pytest.mark.parametrize("use", ADAPTERS)
def test_activation_checkpointing_and_accumulation_run(recipe: Path, use: str) -> None:
    sets = [f'adapter.use="{use}"', "adapter.dropout=0.0", "trainer.max_steps=2"]
    plain = run(recipe, *sets)
    saving = run(recipe, *sets, "trainer.activation_checkpointing=true")
    contents = [(done.folder / "artifact" / "adapter.safetensors").read_bytes() for done in (plain, saving)]
    assert contents[0] == contents[1]
