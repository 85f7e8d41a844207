"""The exporter `adapter`: what PEFT reads, and nothing of this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from tunesmith import DiskError, RecipeError, TunesmithError
from tunesmith.artifact import load_artifact, read_card
from tunesmith.store import damage, digests_of
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


def test_the_card_of_a_reward_model_loads_it_under_its_head(bench: Any, batch: Any) -> None:
    artifact = bench.make("run", {"use": "lora", "rank": 4}, head="scalar")
    folder = exported(bench, artifact)
    said = 'AutoModelForSequenceClassification.from_pretrained("model", num_labels=1)'
    assert said in (folder / "README.md").read_text()
    base = AutoModelForSequenceClassification.from_pretrained(bench.model, num_labels=1)
    model = PeftModel.from_pretrained(base, str(folder)).eval()
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


def test_a_place_that_cannot_be_written_is_refused(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from tunesmith_export import merge
    from tunesmith_export.settings import MergeSettings

    artifact = bench.make("run", {"use": "lora", "rank": 4})
    (bench.folder / "file").write_text("")
    with pytest.raises(DiskError, match="file is a file, not a folder"):
        export(artifact, AdapterSettings(to=Path("file/out")), bench.context)
    monkeypatch.setattr(merge, "load_artifact", lambda *_: pytest.fail("it was loaded"))
    with pytest.raises(DiskError, match="file is a file, not a folder"):
        merge.export(artifact, MergeSettings(to=Path("file/out")), bench.context)


def test_every_file_that_the_method_saved_goes_along_and_is_told(bench: Any) -> None:
    import tunesmith_longlora

    bench.registry.add(tunesmith_longlora, distribution="tunesmith-longlora")
    artifact = bench.make("run", {"use": "longlora", "rank": 2, "scale": 4, "group_size": 4})
    folder = exported(bench, artifact)
    name = "longlora_config.json"
    assert (folder / name).read_bytes() == (artifact / name).read_bytes()
    assert damage(folder) == []
    card = (folder / "README.md").read_text()
    assert f"more than PEFT reads: `{name}`" in card
    assert '"rope_type": "linear"' in card
    assert "without it the model may be another one" in card
    assert {path.name for path in folder.iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors", name, "README.md", "export.json", "digests.json"
    }  # fmt: skip


def test_the_settings_of_the_quantizer_are_told(bench: Any) -> None:
    artifact = bench.make("run", {"use": "lora", "rank": 4}, quantizer={"use": "rounding", "step": 0.25})
    card = (exported(bench, artifact) / "README.md").read_text()
    assert "by `rounding` of local" in card
    assert "`step = 0.25`" in card
    assert "on which its answers differ" in card
    assert not any("holds over the base" in line for line in bench.said)


def test_an_adapter_that_holds_over_its_quantized_base_only_is_told_loudly(bench: Any) -> None:
    artifact = bench.make(
        "run", {"use": "lora", "rank": 4, "init": "default"}, quantizer={"use": "rounding", "step": 0.25}
    )
    line = read_card(artifact)["line"]
    line["adapter"]["settings"]["init"] = "loftq"
    (artifact / "tunesmith.json").write_text(json.dumps({**read_card(artifact), "line": line}))
    (artifact / "digests.json").write_text(json.dumps(digests_of(artifact)))
    card = (exported(bench, artifact) / "README.md").read_text()
    assert "**It holds over that base only, not over the dense one:**" in card
    assert "quantized as above, or the answers are wrong" in card
    assert any("warning: this adapter holds over the base in rounded only" in line for line in bench.said)
