"""Whole runs in this process, on the tiny model."""

from __future__ import annotations

import hashlib
import json
import signal
from pathlib import Path
from typing import Any

import pytest

import tunesmith
from tunesmith import Adapted, Context, Registry
from tunesmith.artifact import load_artifact
from tunesmith.context import SilentReporter
from tunesmith.plan import make_plan
from tunesmith.recipe import read
from tunesmith.run import resume, start

ROWS = [{"prompt": f"{a}+{b}=", "completion": str(a + b)} for a in range(6) for b in range(6)]


def registry(*more: Any) -> Registry:
    import tunesmith_data
    import tunesmith_evaluate
    import tunesmith_sft
    import tunesmith_soft_prompts
    import tunesmith_transformers

    made = Registry()
    own = (tunesmith_data, tunesmith_evaluate, tunesmith_sft, tunesmith_soft_prompts, tunesmith_transformers)
    for module in (*own, *more):
        made.add(module)
    assert not made.problems
    return made


class Recipe:
    """A recipe for the tiny model in a folder, to run and to resume."""

    def __init__(self, folder: Path, model: Path) -> None:
        self.folder = folder
        self.model = model
        self.rows: list[dict[str, Any]] = ROWS
        self.adapter = 'use = "prompt"\nvirtual_tokens = 6'
        self.evaluate = ""
        self.data = ""
        self.trainer = ""

    def run(self, name: str, *more: Any) -> Any:
        (self.folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in self.rows))
        path = self.folder / "recipe.toml"
        path.write_text(
            f"""
[run]
folder = {json.dumps(str(self.folder / name))}
device = "cpu"
[model]
source = {json.dumps(str(self.model))}
[data]
use = "jsonl"
path = "rows.jsonl"
validation = 0.25
{self.data}
[adapter]
{self.adapter}
[trainer]
use = "sft"
learning_rate = 0.1
batch_size = 4
max_steps = 6
save_steps = 2
{self.trainer}
[[evaluate]]
use = "perplexity"
{self.evaluate}
"""
        )
        made = registry(*more)
        return start(make_plan(read(path), made), made, SilentReporter())

    def resume(self, path: Path) -> None:
        resume(path, registry(), SilentReporter())

    def adapted(self, path: Path) -> Adapted:
        """The model that a run kept."""
        return load_artifact(path / "artifact", registry(), Context(device="cpu"))

    def newest(self, name: str) -> Path:
        return max((self.folder / name).iterdir(), key=lambda path: path.name)


@pytest.fixture
def recipe(tmp_path: Path, tiny_folder: Path) -> Recipe:
    return Recipe(tmp_path, tiny_folder)


class StopAtThree:
    """An observer that asks the process to stop when step 3 is reported."""

    @tunesmith.hookimpl
    def tunesmith_step(self, stage: str, step: int, metrics: Any) -> None:
        if step == 3:
            signal.raise_signal(signal.SIGTERM)


@pytest.fixture
def stop_at_three() -> StopAtThree:
    return StopAtThree()


@pytest.fixture
def digests() -> Any:
    """The digests of the weights in an artifact, by name."""

    def made(artifact: Path) -> dict[str, str]:
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in artifact.glob("*.safetensors")}

    return made
