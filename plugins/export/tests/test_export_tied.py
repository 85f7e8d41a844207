"""Adapters on a head that is tied to the embedding: merged, exported and carried on, the model is the tuned one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from tunesmith.artifact import load_artifact
from tunesmith_export.merge import export
from tunesmith_export.settings import MergeSettings

HEAD = {"target_modules": ["lm_head", "q_proj"]}


@pytest.fixture
def tied(bench: Any, tmp_path: Path) -> Any:
    """The bench with a base whose head is its embedding."""
    model = AutoModelForCausalLM.from_pretrained(bench.model)
    model.config.tie_word_embeddings = True
    model.tie_weights()
    folder = tmp_path / "tied"
    model.save_pretrained(folder)
    for path in bench.model.iterdir():
        if not (folder / path.name).exists():
            (folder / path.name).write_bytes(path.read_bytes())
    for name in ("adalora", "loha"):
        bench.registry.add(__import__(f"tunesmith_{name}"), distribution=f"tunesmith-{name}")
    bench.model = folder
    return bench


def logits(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(**batch).logits


@pytest.mark.parametrize(
    "adapter",
    [
        {"use": "lora", "rank": 4, **HEAD},
        {"use": "lora", "rank": 4, "init": "pissa", **HEAD},
        {"use": "lora", "rank": 4, "modules_to_save": ["embed_tokens"], **HEAD},
        {"use": "adalora", "init_rank": 4, "target_rank": 2, **HEAD},
        {"use": "loha", "rank": 4, **HEAD},
        {"use": "lokr", "rank": 4, **HEAD},
        {"use": "ia3", "feedforward_modules": [], **HEAD},
    ],
    ids=str,
)
def test_the_head_alone_is_changed(tied: Any, batch: Any, adapter: dict[str, Any]) -> None:
    artifact = tied.make("run", adapter)
    tuned = logits(load_artifact(artifact, tied.registry, tied.context).model, batch)
    base = AutoModelForCausalLM.from_pretrained(tied.model)
    assert not torch.allclose(tuned, logits(base, batch), atol=1e-2)
    folder = export(artifact, MergeSettings(to=Path("model")), tied.context)
    model = AutoModelForCausalLM.from_pretrained(folder)
    torch.testing.assert_close(logits(model, batch), tuned, rtol=1e-4, atol=1e-4)
    assert model.config.tie_word_embeddings is False
    if "modules_to_save" not in adapter:
        assert torch.equal(model.model.embed_tokens.weight, base.model.embed_tokens.weight)
    assert tied.context.facts["parity"]["passed"] is True


def test_a_later_stage_stands_on_the_tuned_model(tied: Any, batch: Any) -> None:
    first = tied.make("first", {"use": "lora", "rank": 4, **HEAD})
    tuned = logits(load_artifact(first, tied.registry, tied.context).model, batch)
    second = tied.make("second", {"use": "lora", "rank": 2}, size=0, parent=first)
    adapted = load_artifact(second, tied.registry, tied.context)
    torch.testing.assert_close(logits(adapted.model, batch), tuned, rtol=1e-4, atol=1e-4)
    moved = tied.make("third", {"use": "lora", "rank": 2}, seed=3, parent=first)
    tuned = logits(load_artifact(moved, tied.registry, tied.context).model, batch)
    model = AutoModelForCausalLM.from_pretrained(export(moved, MergeSettings(to=Path("model")), tied.context))
    torch.testing.assert_close(logits(model, batch), tuned, rtol=1e-4, atol=1e-4)
