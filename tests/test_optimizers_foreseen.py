"""Every trainer on the durable base says in its plan when an optimizer cannot be had here, whichever it is."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from tunesmith import Registry
from tunesmith.plan import make_plan
from tunesmith.recipe import Recipe
from tunesmith.spec import Trainer
from tunesmith_transformers.training.settings import TrainingSettings

TRAINERS = [entry.component for entry in Registry.discover().entries("trainer")]
DURABLE = [
    t
    for t in TRAINERS
    if issubclass(t.settings, TrainingSettings) or "optim_unavailable" in {item.name for item in fields(t.settings)}
]


@pytest.mark.parametrize("trainer", DURABLE, ids=lambda trainer: trainer.name)
def test_the_plan_names_what_is_used_in_place_of_a_paged_optimizer(
    trainer: Trainer, tiny_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n' * 4)
    tree = {
        "run": {"device": "cpu"},
        "data": {"use": "jsonl", "path": "rows.jsonl"},
        "adapter": {"use": "lora"},
        "trainer": {"use": trainer.name, "optim": "paged_adamw_32bit"},
        "models": {role.name: {"source": str(tiny_folder)} for role in trainer.roles if not role.default},
    }
    (stage,) = make_plan(Recipe(tree, base=tmp_path), Registry.discover()).stages
    assert any("paged_adamw_32bit pages its state" in note for note in stage.trainer.notes), stage.trainer.notes


def test_there_are_such_trainers() -> None:
    assert {"sft", "dpo", "ipo", "kto", "orpo", "cpo", "simpo", "reward", "ppo", "grpo", "rloo"} <= {
        t.name for t in DURABLE
    }
