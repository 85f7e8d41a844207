"""An interrupted run ends in the bits of one that was not, and the same plan twice in the same bits: every trainer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from faults.battery import Recorder, amount
from faults.lost import NothingLost, weights
from faults.victims import Victims
from tunesmith import Registry
from tunesmith.spec import Trainer
from tunesmith.testing.checks_listing import module_of

pytestmark = [pytest.mark.run, pytest.mark.fault("R22")]

REGISTRY = Registry.discover()
TRAINERS = {entry.component.name: entry.component for entry in REGISTRY.entries("trainer")}
#: Rows by what a trainer takes, or what the loader makes it of (`NEEDS`); a trainer that names none of these is given
#: prompts with completions.
ROWS: dict[str, list[dict[str, Any]]] = {
    "preference": [
        {"prompt": f"{a}+{b}=", "chosen": str(a + b), "rejected": f"no{b}"} for a in range(6) for b in range(4)
    ],
    "text-label": [{"text": f"{a}+{b}", "label": ("even", "odd")[(a + b) % 2]} for a in range(6) for b in range(4)],
    "tokens-tags": [{"tokens": [str(a), "+", str(b)], "tags": ["N", "O", "N"]} for a in range(6) for b in range(4)],
    "prompt-completion": [{"prompt": f"{a}+{b}=", "completion": str(a + b)} for a in range(6) for b in range(4)],
}
ROWS["unpaired-preference"] = ROWS["preference"]
SCORE = "def score(prompts, completions, rows):\n    return [float(len(text)) for text in completions]\n"
ANSWERS = {"max_new_tokens": 4, "reward": "./score.py:score"}
#: What the small recipe of a trainer needs besides: tables of the recipe.
NEEDS: dict[str, dict[str, Any]] = {
    "kto": {"data": {"pairs": "unpaired"}},
    "ppo": {"trainer": {**ANSWERS, "num_ppo_epochs": 1}},
    "grpo": {"trainer": {**ANSWERS, "num_generations": 2}},
    "rloo": {"trainer": {**ANSWERS, "num_generations": 2}},
}
#: Adapters and quantizers; `adalora` with the settings that its plugin gives the kit.
ADAPTERS: dict[str, dict[str, Any]] = {
    "LoRA": {"adapter": {"use": "lora", "rank": 4, "dropout": 0.1}},
    "AdaLoRA": {"adapter": {"use": "adalora"}},
    "full": {"adapter": {"use": "full"}},
    "QLoRA": {"adapter": {"use": "lora", "rank": 4, "dropout": 0.1}, "quantizer": {"use": "nf4"}},
}
QUICK = [("sft", "AdaLoRA"), ("dpo", "QLoRA")]


def recipe_of(trainer: Trainer, adapter: str, house: Any) -> dict[str, Any]:
    """A small recipe with a trainer and an adapter."""
    kind = next((kind for kind in trainer.accepts if kind in ROWS), "prompt-completion")
    house.rows(ROWS[kind])
    house.write("score.py", SCORE)
    needs = NEEDS.get(trainer.name, {})
    steps = {"max_steps": 4, "save_steps": 3, "batch_size": 4, "learning_rate": 0.01}
    source = house.content["model"]["source"]
    tables = {name: dict(table) for name, table in ADAPTERS[adapter].items()}
    if adapter == "AdaLoRA":
        (entry,) = [entry for entry in REGISTRY.entries("adapter") if entry.component.name == "adalora"]
        examples = module_of(entry.plugin, REGISTRY).tunesmith_examples["adalora"]
        tables["adapter"] |= examples if isinstance(examples, dict) else examples[0]
    if adapter == "full" and any(role.name == "reference" for role in trainer.roles):
        tables["adapter"] |= {"keep_base": True}
    models = {role.name: {"source": source} for role in trainer.roles if not role.default and not role.optional}
    return {
        "run": house.content["run"],
        "evaluate": [],
        "data": {"use": "jsonl", "path": "rows.jsonl", **needs.get("data", {})},
        "trainer": {"use": trainer.name, **steps, **needs.get("trainer", {})},
        "models": models,
        **tables,
    }


@pytest.mark.parametrize(
    ("name", "adapter"), amount([(name, adapter) for name in sorted(TRAINERS) for adapter in ADAPTERS], QUICK)
)
def test_the_same_bits(house: Any, victims: Victims, fault: Recorder, name: str, adapter: str) -> None:
    twice, resumed = fault("R22", f"run twice, {adapter}"), fault("R22", f"stopped and resumed, {adapter}")
    house.content = recipe_of(TRAINERS[name], adapter, house)
    recipe = house.recipe()
    code = victims.run("run", recipe)
    assert code == 0, victims.said()
    promise = NothingLost(house.runs / "recipe-001", 3)
    again, run = house.runs / "recipe-002", house.runs / "recipe-003"
    with twice.trial(f"{name}, {adapter}"):
        assert victims.run("run", recipe) == 0, victims.said()
        assert weights(again) == promise.weights
        assert figures(again) == figures(promise.untouched)
    with resumed.trial(f"{name}, {adapter}"):
        assert victims.run("run", recipe, actions={"step 2": ["send", 15]}) == 143, victims.said()
        promise.at_the_fault(run)
        assert victims.run("resume", run) == 0, victims.said()
        promise.at_the_end(run)
        assert figures(run) == figures(promise.untouched)


def figures(run: Path) -> list[dict[str, float]]:
    """The metrics log without what depends on time."""
    timed = ("tokens_per_second", "seconds")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if not key.endswith(timed)} for line in lines]
