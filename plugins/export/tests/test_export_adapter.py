"""The exporter `adapter`: what PEFT reads, and nothing of this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from tunesmith import RecipeError, TunesmithError
from tunesmith.artifact import load_artifact
from tunesmith.store import damage
from tunesmith_export.adapter import export
from tunesmith_export.settings import AdapterSettings


def exported(bench: Any, artifact: Path, **settings: Any) -> Path:
    return export(artifact, AdapterSettings(to=Path("out"), **settings), bench.context)


@pytest.mark.parametrize("adapter", [{"use": "lora", "rank": 4}, {"use": "ia3"}, {"use": "prompt"}], ids=str)
def test_peft_loads_the_folder(bench: Any, batch: Any, adapter: dict[str, Any]) -> None:
    artifact = bench.make("run", adapter)
    folder = exported(bench, artifact)
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "adapter_config.json", "adapter_model.safetensors", "README.md", "export.json", "digests.json"
    }  # fmt: skip
    assert damage(folder) == []
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(bench.model), str(folder)).eval()
    tuned = load_artifact(artifact, bench.registry, bench.context).model
    with torch.no_grad():
        assert torch.equal(model(**batch).logits, tuned(**batch).logits)


def test_nothing_of_this_machine_goes_along(bench: Any) -> None:
    folder = exported(bench, bench.make("run", {"use": "lora", "rank": 4}))
    text = "".join(path.read_text() for path in folder.iterdir() if path.suffix != ".safetensors")
    assert str(bench.folder) not in text
    assert str(bench.model.parent) not in text
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == "model"
    card = (folder / "README.md").read_text()
    assert card.startswith('---\nlibrary_name: peft\nbase_model: "model"\n')
    assert "| perplexity | 3 |" in card


def test_the_base_may_be_named_otherwise(bench: Any) -> None:
    folder = exported(bench, bench.make("run", {"use": "lora", "rank": 4}), base="owner/name")
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == "owner/name"
    assert '"owner/name"' in (folder / "README.md").read_text()


def test_an_adapter_on_a_merged_stage_needs_the_name_of_that_model(bench: Any) -> None:
    lora = {"use": "lora", "rank": 4}
    artifact = bench.make("second", lora, parent=bench.make("first", lora))
    with pytest.raises(RecipeError, match="stands on an earlier stage"):
        exported(bench, artifact)
    assert exported(bench, artifact, base="first-merged").is_dir()


def test_the_quantization_is_told(bench: Any) -> None:
    artifact = bench.make("run", {"use": "lora", "rank": 4}, quantizer={"use": "rounding"})
    assert "trained over the base in `rounded`" in (exported(bench, artifact) / "README.md").read_text()


def test_a_layout_of_its_own_is_not_handed_out_as_peft_s(bench: Any) -> None:
    artifact = bench.make("run", {"use": "houlsby", "bottleneck": 4})
    with pytest.raises(TunesmithError, match="'houlsby' is kept in a layout of its own"):
        exported(bench, artifact)


def test_a_changed_artifact_is_refused(bench: Any) -> None:
    artifact = bench.make("run", {"use": "lora", "rank": 4})
    (artifact / "adapter_config.json").write_text("{}")
    with pytest.raises(TunesmithError, match="is damaged"):
        exported(bench, artifact)
    assert not (bench.folder / "out").exists()


def test_a_link_that_leads_out_of_the_artifact_is_refused(bench: Any, tmp_path: Path) -> None:
    artifact = bench.make("run", {"use": "lora", "rank": 4})
    (tmp_path / "secret").write_text("s")
    (artifact / "adapter_config.json").unlink()
    (artifact / "adapter_config.json").symlink_to(tmp_path / "secret")
    with pytest.raises(TunesmithError, match="is damaged"):
        exported(bench, artifact)
