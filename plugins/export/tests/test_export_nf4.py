"""An adapter that was trained over real 4-bit weights: merged into full precision, compared, combined, handed out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from tunesmith import RecipeError
from tunesmith.artifact import load_artifact
from tunesmith.combine import Weighted, combine
from tunesmith_export import adapter, merge
from tunesmith_export.settings import AdapterSettings, MergeSettings

qlora = pytest.importorskip("tunesmith_qlora", reason="the quantizers are a package of their own")
LORA = {"use": "lora", "rank": 4}


@pytest.fixture
def four_bit(bench: Any) -> Any:
    bench.registry.add(qlora, distribution="tunesmith-qlora")
    return bench


@pytest.mark.parametrize("quantizer", ["nf4", "int8"])
def test_over_bitsandbytes(four_bit: Any, batch: Any, quantizer: str) -> None:
    artifact = four_bit.make("run", LORA, quantizer={"use": quantizer})
    packed = load_artifact(artifact, four_bit.registry, four_bit.context)
    assert any("bnb" in type(p).__module__ or "bitsandbytes" in type(p).__module__ for p in packed.model.parameters())
    dense = load_artifact(artifact, four_bit.registry, four_bit.context, dense=True)
    with torch.no_grad():
        expected = dense.model(**batch).logits
        assert not torch.allclose(packed.model(**batch).logits, expected, atol=1e-3)
    folder = merge.export(artifact, MergeSettings(to=Path("model"), force=True), four_bit.context)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    assert not getattr(model.config, "quantization_config", None)
    with torch.no_grad():
        assert torch.allclose(model(**batch).logits, expected, atol=1e-4)
    distances = json.loads((folder / "parity.json").read_text())["distances"]
    near, far = distances[merge.FULL], distances[f"the adapter on {quantizer}"]
    assert near["kl"] < 1e-6 < far["kl"]
    assert near["agreement"] == 1
    with pytest.raises(RecipeError, match=f"too far from the adapter on {quantizer}"):
        merge.export(artifact, MergeSettings(to=Path("other"), max_kl=1e-7), four_bit.context)


def test_adapters_over_nf4_are_combined_and_handed_out(four_bit: Any) -> None:
    made = [four_bit.make(name, LORA, quantizer={"use": "nf4"}, seed=seed) for name, seed in (("a", 1), ("b", 2))]
    parts = [Weighted(artifact, 0.5, artifact.parent.name) for artifact in made]
    total = combine(parts, four_bit.folder / "sum", four_bit.registry, four_bit.context)
    assert load_artifact(total, four_bit.registry, four_bit.context).handle.quantized == "nf4"
    folder = adapter.export(total, AdapterSettings(to=Path("out")), four_bit.context)
    assert "trained over the base in `nf4`" in (folder / "README.md").read_text()


def test_what_works_over_quantized_weights_only_is_not_merged_into_dense_ones(four_bit: Any) -> None:
    artifact = four_bit.make("run", {**LORA, "init": "loftq"}, quantizer={"use": "nf4"})
    with pytest.raises(RecipeError, match="cannot stand on the base in full precision") as caught:
        merge.export(artifact, MergeSettings(to=Path("model")), four_bit.context)
    assert "--use adapter" in str(caught.value.fix)
    assert not (four_bit.folder / "model").exists()
