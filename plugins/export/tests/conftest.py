"""Artifacts without a run: an adapter with random weights, committed as a stage commits it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tunesmith import Adapted, Context, Dataset, Records, Registry
from tunesmith.artifact import Line, adapt, commit, load_base
from tunesmith.plan import make_plan
from tunesmith.recipe import Recipe

ROUNDING = Path(__file__).with_name("rounding.py")
ROWS = [{"prompt": f"{a}+{b}=", "completion": str(a + b)} for a in range(6) for b in range(4)]


class Bench:
    """A place where artifacts are made and exported."""

    def __init__(self, folder: Path, model: Path, registry: Registry) -> None:
        self.folder = folder
        self.model = model
        self.registry = registry
        self.said: list[str] = []
        self.context = Context(
            device="cpu", folder=folder, stage_folder=folder, cache=folder / "cache", registry=registry,
            rows=self.data, reporter=self,
        )  # fmt: skip

    def data(self) -> Dataset:
        held = Records(ROWS, [f"rows:{number}" for number in range(len(ROWS))])
        return Dataset(type="prompt-completion", train=held, validation=held)

    def make(
        self, name: str, adapter: dict[str, Any], *, quantizer: dict[str, Any] | None = None, size: float = 0.05,
        seed: int = 1, parent: Path | None = None, head: str = "causal-lm",
    ) -> Path:  # fmt: skip
        """An artifact whose trained parameters are moved by normal numbers of standard deviation `size`."""
        tree = {
            "model": {"source": str(self.model)},
            "data": {"use": "jsonl", "path": "rows.jsonl"},
            "adapter": adapter,
            "trainer": {"use": "sft"},
            **({"quantizer": quantizer} if quantizer else {}),
        }
        (self.folder / "rows.jsonl").write_text("{}")
        role = make_plan(Recipe(tree, base=self.folder), self.registry).stages[0].main_role
        line = Line(head, self.folder, role.model, role.quantizer, role.adapter)
        line = replace(line, labels=self.context.labels)
        if parent:
            line = replace(line, model=None, quantizer=None, parent=parent)
        adapted = self.adapted(line)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in adapted.trainable().values():
                parameter.add_(torch.randn(parameter.shape, generator=generator) * size)
        card = {"run": f"{name}-001", "stage": "main", "fingerprint": "f", "created": "now"}
        text = "# card\n\n| measure | before |\n| --- | --- |\n| perplexity | 3 |\n"
        return commit(self.folder / name / "artifact", line, adapted, card, text)

    def adapted(self, line: Line) -> Adapted:
        return adapt(load_base(line, self.registry, self.context), line.adapter, self.context)

    # --- the reporter -------------------------------------------------------------------------
    def phase(self, name: str) -> None: ...

    def say(self, message: str) -> None:
        self.said.append(message)

    def warn(self, message: str) -> None:
        self.said.append(f"warning: {message}")

    def progress(self, step: int, total: int, metrics: Any) -> None: ...


@pytest.fixture
def bench(tmp_path: Path, tiny_folder: Path, first_party: Callable[[], Registry]) -> Bench:
    registry = first_party()
    registry.add_file(ROUNDING)
    for name in ("bottleneck", "ia3", "soft_prompts"):
        registry.add(__import__(f"tunesmith_{name}"), distribution=f"tunesmith-{name.replace('_', '-')}")
    return Bench(tmp_path, tiny_folder, registry)


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    ids = torch.randint(0, 256, (3, 9), generator=torch.Generator().manual_seed(3))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
