"""Whole runs in this process, on the tiny model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunesmith import Registry
from tunesmith.context import SilentReporter
from tunesmith.plan import make_plan
from tunesmith.recipe import read
from tunesmith.run import Run, resume, start

ROWS = [{"prompt": f"{a}+{b}=", "completion": str(a + b)} for a in range(8) for b in range(6)]


@pytest.fixture(scope="session")
def first_party() -> Callable[[], Registry]:
    import tunesmith_data
    import tunesmith_full
    import tunesmith_lora
    import tunesmith_sft
    import tunesmith_transformers

    def make() -> Registry:
        registry = Registry()
        for module in (tunesmith_data, tunesmith_full, tunesmith_lora, tunesmith_sft, tunesmith_transformers):
            registry.add(module, distribution=module.__name__.replace("_", "-"), version="0.1.0")
        assert not registry.problems
        return registry

    return make


class House:
    """A folder with a recipe, rows and runs."""

    def __init__(self, folder: Path, model: Path, make_registry: Callable[[], Registry]) -> None:
        self.folder = folder
        self.make_registry = make_registry
        self.rows(ROWS)
        (folder / "recipe.toml").write_text(
            f"""
            [run]
            folder = {json.dumps(str(folder / "runs"))}
            device = "cpu"
            [model]
            source = {json.dumps(str(model))}
            [data]
            use = "jsonl"
            path = "rows.jsonl"
            validation = 0.25
            [adapter]
            use = "lora"
            rank = 4
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

    def rows(self, rows: list[dict[str, Any]]) -> None:
        (self.folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def run(self, *sets: str, plugins: tuple[Any, ...] = ()) -> Run:
        registry = self.make_registry()
        for plugin in plugins:
            registry.add(plugin, name="test-observer")
        plan = make_plan(read(self.folder / "recipe.toml", sets), registry)
        return start(plan, registry, SilentReporter())

    def resume(self, run: Path) -> Run:
        return resume(run, self.make_registry(), SilentReporter())

    def newest(self) -> Path:
        return max((self.folder / "runs").iterdir(), key=lambda path: path.name)


@pytest.fixture
def house(tmp_path: Path, tiny_folder: Path, first_party: Callable[[], Registry]) -> House:
    return House(tmp_path, tiny_folder, first_party)
