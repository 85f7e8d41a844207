"""The exporter `merge`: one plain model that answers as the tuned one, and what is refused."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import tunesmith_export
from tunesmith import Context, DataError, RecipeError, TunesmithError
from tunesmith.artifact import load_artifact
from tunesmith.context import no_rows
from tunesmith.store import damage
from tunesmith_export.merge import FULL, export
from tunesmith_export.parity import Predictions, distance, predictions
from tunesmith_export.rows import compared_rows
from tunesmith_export.settings import MergeSettings

LORA = {"use": "lora", "rank": 4}
ROUNDING = {"use": "rounding", "step": 0.05}


def merged(bench: Any, artifact: Path, **settings: Any) -> Path:
    return export(artifact, MergeSettings(to=Path("model"), **settings), bench.context)


def logits(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(**batch).logits


@pytest.mark.parametrize(
    "adapter",
    [
        LORA,
        {**LORA, "use_dora": True},
        {**LORA, "init": "pissa"},
        {"use": "ia3"},
        {"use": "full"},
        {"use": "last-layers", "layers": 1},
    ],
    ids=str,
)
def test_the_folder_answers_as_the_tuned_model(bench: Any, batch: Any, adapter: dict[str, Any]) -> None:
    artifact = bench.make("run", adapter)
    tuned = load_artifact(artifact, bench.registry, bench.context)
    folder = merged(bench, artifact)
    assert folder == bench.folder / "model"
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert torch.allclose(logits(model, batch), logits(tuned.model, batch), atol=1e-4)
    untuned = AutoModelForCausalLM.from_pretrained(bench.model)
    assert not torch.allclose(logits(model, batch), logits(untuned, batch), atol=1e-2)
    assert {type(module) for module in model.modules()} == {type(module) for module in untuned.modules()}
    assert set(model.state_dict()) == set(untuned.state_dict())
    report = json.loads((folder / "parity.json").read_text())
    assert report["passed"] is True
    assert report["distances"][FULL]["kl"] < 1e-6
    assert report["distances"][FULL]["agreement"] == 1
    assert report == bench.context.facts["parity"]


def test_the_folder_holds_all_that_a_model_needs_and_no_pickle(bench: Any) -> None:
    folder = merged(bench, bench.make("run", LORA))
    assert {path.name for path in folder.iterdir()} == {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
        "chat_template.jinja", "README.md", "parity.json", "export.json", "digests.json",
    }  # fmt: skip
    assert damage(folder) == []
    tokenizer = AutoTokenizer.from_pretrained(folder)
    turns = [{"role": "user", "content": "hi"}]
    assert "<|im_start|>user\nhi<|im_end|>" in tokenizer.apply_chat_template(turns, tokenize=False)
    text = "".join(path.read_text() for path in folder.iterdir() if path.suffix in (".json", ".md", ".jinja"))
    assert str(bench.folder) not in text
    assert str(bench.model.parent) not in text
    card = (folder / "README.md").read_text()
    assert card.startswith('---\nlibrary_name: transformers\nbase_model: "model"\ntags: [lora, merged]\n---\n')
    assert "| perplexity | 3 |" in card
    assert "| merged |" in card


def test_the_source_directory_loads_it(bench: Any, batch: Any) -> None:
    artifact = bench.make("run", LORA)
    folder = merged(bench, artifact)
    tuned = load_artifact(artifact, bench.registry, bench.context)
    bench.model = folder
    again = load_artifact(bench.make("second", LORA, size=0), bench.registry, bench.context)
    assert again.handle.source == str(folder)
    assert torch.allclose(logits(again.model, batch), logits(tuned.model, batch), atol=1e-4)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_type_of_the_weights_is_a_setting(bench: Any, dtype: str) -> None:
    folder = merged(bench, bench.make("run", LORA), dtype=dtype, max_kl=1.0, min_agreement=0.1)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    assert {str(parameter.dtype) for parameter in model.parameters()} == {f"torch.{dtype}"}
    kl = json.loads((folder / "parity.json").read_text())["distances"][FULL]["kl"]
    assert 0 < kl < 0.05, "what is compared is what is written"


def test_a_stage_on_a_merged_stage_comes_out_as_one_model(bench: Any, batch: Any) -> None:
    parent = bench.make("first", LORA)
    artifact = bench.make("second", {"use": "lora", "rank": 2}, seed=2, parent=parent)
    tuned = load_artifact(artifact, bench.registry, bench.context)
    model = AutoModelForCausalLM.from_pretrained(merged(bench, artifact))
    assert torch.allclose(logits(model, batch), logits(tuned.model, batch), atol=1e-4)


# --- over a quantized base ----------------------------------------------------------------------
def test_over_a_quantized_base_it_is_merged_into_full_precision(bench: Any, batch: Any) -> None:
    artifact = bench.make("run", LORA, quantizer=ROUNDING)
    dense = load_artifact(artifact, bench.registry, bench.context, dense=True)
    rounded = load_artifact(artifact, bench.registry, bench.context)
    assert (dense.handle.quantized, rounded.handle.quantized) == (None, "rounded")
    folder = merged(bench, artifact, max_kl=10, min_agreement=0)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert torch.allclose(logits(model, batch), logits(dense.model, batch), atol=1e-4)
    assert not torch.allclose(logits(model, batch), logits(rounded.model, batch), atol=1e-2)
    report = json.loads((folder / "parity.json").read_text())
    assert list(report["distances"]) == ["the adapter on rounded", FULL]
    assert report["distances"][FULL]["kl"] < 1e-6
    assert report["distances"]["the adapter on rounded"]["kl"] > 1e-3
    assert list(report["losses"]) == ["the adapter on rounded", FULL, "merged"]
    card = (folder / "README.md").read_text()
    assert "trained over the base in `rounded`" in card
    assert "| the adapter on rounded |" in card
    assert any("the merged model against the adapter on rounded: KL" in line for line in bench.said)


def test_the_figures_are_those_of_the_definition(bench: Any) -> None:
    artifact = bench.make("run", LORA, quantizer=ROUNDING)
    dense = load_artifact(artifact, bench.registry, bench.context, dense=True)
    rounded = load_artifact(artifact, bench.registry, bench.context)
    kl, agreeing, losses, count = 0.0, 0, 0.0, 0
    for row in compared_rows(rounded.handle, MergeSettings(), bench.context).rows:
        ids = {"input_ids": torch.tensor([row.ids])}
        p, q = (logits(a.model, ids)[0].double().softmax(-1) for a in (rounded, dense))  # (T, V)
        for t, wanted in enumerate(row.supervised):
            if wanted:
                kl += float((p[t - 1] * (p[t - 1] / q[t - 1]).log()).sum())
                agreeing += int(p[t - 1].argmax() == q[t - 1].argmax())
                losses -= math.log(p[t - 1][row.ids[t]])
                count += 1
    merged(bench, artifact, max_kl=10, min_agreement=0)
    report = bench.context.facts["parity"]
    name = "the adapter on rounded"
    assert report["tokens"] == count
    assert report["distances"][name]["kl"] == pytest.approx(kl / count, rel=1e-4)
    assert report["distances"][name]["agreement"] == pytest.approx(agreeing / count)
    assert report["losses"][name] == pytest.approx(losses / count, rel=1e-5)


@pytest.mark.parametrize("limits", [{"max_kl": 1e-4, "min_agreement": 0}, {"max_kl": 100, "min_agreement": 1}])
def test_too_far_from_the_tuned_model_is_refused_unless_forced(bench: Any, limits: dict[str, float]) -> None:
    artifact = bench.make("run", LORA, quantizer={"use": "rounding", "step": 0.4})
    with pytest.raises(RecipeError, match="too far from the adapter on rounded: KL") as caught:
        merged(bench, artifact, **limits)
    assert "force = true" in str(caught.value.fix)
    assert not (bench.folder / "model").exists()
    folder = merged(bench, artifact, force=True, **limits)
    assert json.loads((folder / "parity.json").read_text())["passed"] is False
    assert any(line.startswith("warning: the merged model against") for line in bench.said)


def test_without_the_data_a_dense_base_is_compared_on_made_up_rows_and_no_other_is_merged(bench: Any) -> None:
    bench.context = bench.context.with_(rows=no_rows)
    folder = merged(bench, bench.make("dense", LORA))
    report = json.loads((folder / "parity.json").read_text())
    assert (report["passed"], report["origin"], report["rows"]) == (True, "made-up", 8)
    artifact = bench.make("run", LORA, quantizer=ROUNDING)
    with pytest.raises(DataError, match="cannot be compared with the tuned one") as caught:
        merged(bench, artifact, overwrite=True)
    assert "force = true" in str(caught.value.fix)
    merged(bench, artifact, overwrite=True, force=True)
    assert "not compared with the tuned one" in (folder / "README.md").read_text()


def test_at_most_so_many_tokens_are_compared_evenly_spread(bench: Any, tiny_handle: Any) -> None:
    every = compared_rows(tiny_handle, MergeSettings(), bench.context).rows
    some = compared_rows(tiny_handle, MergeSettings(tokens=10, rows=12), bench.context).rows
    assert sum(sum(row.supervised) for row in every) > 40
    assert sum(sum(row.supervised) for row in some) == 10
    assert 5 <= len(some) <= 10


def test_a_model_that_answers_nan_is_never_within_the_limits() -> None:
    p = torch.log_softmax(torch.randn(300, 5, generator=torch.Generator().manual_seed(0)), -1)
    assert distance(Predictions(p, 1.0), Predictions(p, 1.0)).kl == 0
    broken = p.clone()
    broken[7] = math.nan
    far = distance(Predictions(p, 1.0), Predictions(broken, math.nan))
    assert not far.within(MergeSettings(max_kl=1e9, min_agreement=0))


def test_the_order_of_positions_does_not_depend_on_the_batches(bench: Any, tiny_handle: Any) -> None:
    rows = compared_rows(tiny_handle, MergeSettings(), bench.context).rows
    one = predictions(tiny_handle.model, rows, tiny_handle.tokenizer.pad_token_id, 24)
    other = predictions(tiny_handle.model, rows, tiny_handle.tokenizer.pad_token_id, 1)
    assert torch.allclose(one.logps, other.logps, atol=1e-4)


# --- refused --------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("adapter", "said"),
    [
        ({"use": "pfeiffer", "bottleneck": 4}, "pfeiffer cannot be merged: its bottlenecks are not linear"),
        ({"use": "prompt", "virtual_tokens": 3}, "PROMPT_TUNING cannot be merged"),
    ],
)
def test_a_method_that_cannot_be_merged_says_so(bench: Any, adapter: dict[str, Any], said: str) -> None:
    with pytest.raises(TunesmithError, match=said):
        merged(bench, bench.make("run", adapter))
    assert not (bench.folder / "model").exists()


def test_a_method_for_quantized_weights_alone_is_not_merged_into_dense_ones(bench: Any) -> None:
    artifact = bench.make("run", {"use": "careful"}, quantizer=ROUNDING)
    with pytest.raises(RecipeError, match="cannot stand on the base in full precision: careful works") as caught:
        merged(bench, artifact)
    assert "--use adapter" in str(caught.value.fix)
    assert not (bench.folder / "model").exists()


def test_folders_that_hold_something_else_are_left_alone(bench: Any) -> None:
    artifact = bench.make("run", LORA)
    other = bench.folder / "model"
    other.mkdir()
    (other / "thesis.txt").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(RecipeError, match="exists and is no earlier export"):
            merged(bench, artifact, overwrite=overwrite)
    assert (other / "thesis.txt").read_text() == "years of work"
    for place in (artifact, artifact / "model", bench.folder / "run", bench.folder):
        with pytest.raises(RecipeError, match="overlaps the artifact"):
            export(artifact, MergeSettings(to=place, overwrite=True), bench.context)
    assert damage(artifact) == []


def test_an_earlier_export_is_replaced_only_when_asked(bench: Any) -> None:
    artifact = bench.make("run", LORA)
    merged(bench, artifact)
    before = (bench.folder / "model" / "model.safetensors").read_bytes()
    other = bench.make("other", LORA, seed=5)
    with pytest.raises(RecipeError, match="exists already"):
        merged(bench, other)
    assert (bench.folder / "model" / "model.safetensors").read_bytes() == before
    merged(bench, other, overwrite=True)
    assert (bench.folder / "model" / "model.safetensors").read_bytes() != before


def test_a_resumed_stage_replaces_its_own_export(bench: Any) -> None:
    artifact = bench.make("run", LORA)
    settings = MergeSettings(rows=2)
    assert export(artifact, settings, bench.context) == bench.folder / "export" / "merge"
    with pytest.raises(RecipeError, match="exists already"):
        export(artifact, settings, bench.context)
    export(artifact, settings, bench.context.with_(resume=True))


def test_a_full_disk_leaves_nothing_behind(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    artifact = bench.make("run", LORA)
    from transformers import PreTrainedModel

    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", full)
    with pytest.raises(TunesmithError) as caught:
        merged(bench, artifact)
    assert caught.value.exit_code == 74
    assert not (bench.folder / "model").exists()
    assert not list(bench.folder.glob(".staging-*"))


def test_a_damaged_artifact_is_refused(bench: Any) -> None:
    artifact = bench.make("run", LORA)
    (artifact / "adapter_model.safetensors").write_bytes(b"0")
    with pytest.raises(TunesmithError, match="is damaged"):
        merged(bench, artifact)


def test_settings_that_contradict_each_other_in_the_base_are_named(bench: Any) -> None:
    artifact = bench.make("run", LORA)
    from tunesmith_export import merge

    class Stubborn:
        def save_pretrained(self, folder: str) -> None:
            raise ValueError("temperature without sampling")

    with pytest.raises(TunesmithError, match="refuses to save the merged model: temperature"):
        merge._save(Stubborn(), load_artifact(artifact, bench.registry, bench.context).handle, bench.folder)


def test_the_kit_accepts_the_plugin(check_plugin: Callable[..., Any]) -> None:
    assert check_plugin(tunesmith_export)


def test_a_context_without_a_run_has_neither_plugins_nor_rows() -> None:
    context = Context()
    assert context.registry.entries() == []
    with pytest.raises(DataError, match="no rows are at hand"):
        context.rows()
