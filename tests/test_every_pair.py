"""Every installed adapter under every installed trainer: a run on the tiny model ends, or one sentence says why not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tunesmith import RecipeError, Registry
from tunesmith.artifact import load_artifact
from tunesmith.context import Context, SilentReporter
from tunesmith.plan import make_plan
from tunesmith.recipe import Recipe
from tunesmith.run import start
from tunesmith.spec import Adapter, Trainer
from tunesmith.testing.checks_listing import module_of

REGISTRY = Registry.discover()
TRAINERS = [entry.component for entry in REGISTRY.entries("trainer")]
ADAPTERS = {entry.component.name: entry for entry in REGISTRY.entries("adapter")}
ROWS = [
    {"prompt": f"{a}+{b}=", "chosen": str(a + b), "rejected": f"no{b}", "task": ("add", "take")[a % 2]}
    for a in range(4)
    for b in range(3)
]
DONE = [{"prompt": row["prompt"], "completion": row["chosen"], "task": row["task"]} for row in ROWS]
LABELLED = [{"text": row["prompt"], "label": row["task"], "task": row["task"]} for row in ROWS]
TAGGED = [{"tokens": list(row["prompt"]), "tags": [*"NON", row["task"]], "task": row["task"]} for row in ROWS]
FILES = {"pairs.jsonl": ROWS, "done.jsonl": DONE, "labelled.jsonl": LABELLED, "tagged.jsonl": TAGGED}
#: The file for a trainer that takes rows of a type.
FILE_OF = {"preference": "pairs.jsonl", "text-label": "labelled.jsonl", "tokens-tags": "tagged.jsonl"}
SCORE = "def score(prompts, completions, rows):\n    return [float(len(text)) for text in completions]\n"
#: Pairs that cannot be, and what the refusal says.
REFUSED = {
    (trainer, adapter): f"virtual tokens go before the text of a language model; this model has a '{head}' head"
    for trainer, head in (("reward", "scalar"), ("classify", "sequence-labels"), ("classify-tokens", "token-labels"))
    for adapter in ("prompt", "prefix", "p-tuning", "multitask-prompt")
}
#: What a pair needs besides: a reference must be had without the update, and a new head be trained.
NEEDED: dict[str, dict[str, dict[str, Any]]] = {
    "reference": {"full": {"keep_base": True}, "qat": {"rank": 4}},
    "new head": {"regex": {"pattern": "mlp|score"}},
}


def settings_of(name: str) -> dict[str, Any]:
    """The first settings that the plugin gives the kit."""
    entry = ADAPTERS[name]
    examples = getattr(module_of(entry.plugin, REGISTRY), "tunesmith_examples", {}).get(name, {})
    return dict(examples if isinstance(examples, dict) else examples[0])


def tree_of(trainer: Trainer, adapter: str, source: Path) -> dict[str, Any]:
    steps: dict[str, Any] = {"max_steps": 2, "batch_size": 4, "learning_rate": 0.01}
    data: dict[str, Any] = {"use": "jsonl", "path": "pairs.jsonl", "keep": ["task"]}
    data["path"] = next((FILE_OF[kind] for kind in trainer.accepts if kind in FILE_OF), "done.jsonl")
    if trainer.name == "kto":
        data |= {"path": "pairs.jsonl", "pairs": "unpaired"}
    if trainer.name in ("ppo", "grpo", "rloo"):
        more = {"num_ppo_epochs": 1} if trainer.name == "ppo" else {"num_generations": 2}
        steps |= {"max_new_tokens": 4, "reward": "./score.py:score", **more}
    table = {**settings_of(adapter), "use": adapter}
    if any(role.name == "reference" for role in trainer.roles):
        table |= NEEDED["reference"].get(adapter, {})
    if trainer.roles[0].head != "causal-lm":
        table |= NEEDED["new head"].get(adapter, {})
    return {
        "run": {"device": "cpu", "folder": "runs"},
        "data": data,
        "adapter": table,
        "trainer": {"use": trainer.name, **steps},
        "models": {
            role.name: {"source": str(source)} for role in trainer.roles if not role.default and not role.optional
        },
    }


@pytest.mark.parametrize("adapter", sorted(ADAPTERS))
@pytest.mark.parametrize("trainer", TRAINERS, ids=lambda trainer: trainer.name)
def test_an_adapter_works_with_a_trainer(
    trainer: Trainer, adapter: str, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gc.collect", lambda: 0)
    monkeypatch.setattr("os.fsync", lambda descriptor: None)  # the disk's time decides nothing here
    for name, rows in FILES.items():
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "score.py").write_text(SCORE)
    recipe = Recipe(tree_of(trainer, adapter, tiny_folder), base=tmp_path)
    if (trainer.name, adapter) in REFUSED:
        with pytest.raises(RecipeError, match=REFUSED[trainer.name, adapter]):
            make_plan(recipe, REGISTRY)
        return
    plan = make_plan(recipe, REGISTRY)
    result = start(plan, REGISTRY, SilentReporter()).results["main"]
    assert result.training["steps"] == 2
    assert result.training["trainable_parameters"] > 0
    adapted = load_artifact(result.artifact, REGISTRY, Context(device="cpu", folder=tmp_path))
    assert all(bool(torch.isfinite(tensor).all()) for tensor in adapted.state().values())


def test_the_refused_pairs_exist() -> None:
    assert {trainer for trainer, _ in REFUSED} <= {trainer.name for trainer in TRAINERS}
    assert {adapter for _, adapter in REFUSED} <= set(ADAPTERS)
    assert all(isinstance(entry.component, Adapter) for entry in ADAPTERS.values())
