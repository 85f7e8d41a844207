"""LoftQ makes up for what rounding to 4 bits took from the weights; the artifact is a plain LoRA over that base."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BitsAndBytesConfig

from tunesmith import RecipeError
from tunesmith_lora import LoraSettings, loftq
from tunesmith_lora.adapter import apply
from tunesmith_transformers.loading.model import load
from tunesmith_transformers.training.settings import ModelSettings

IDS = torch.arange(3, 40).view(1, -1)
RANK = 4


@pytest.fixture
def rounded(tiny_folder, context):
    """Makes handles of the tiny model in 4 bits."""

    def make(folder=tiny_folder, **options):
        config = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_compute_dtype=torch.float32, **options)
        settings = ModelSettings(source=str(folder))
        handle = load(folder, settings, context.with_(device="cpu"), "causal-lm", {"quantization_config": config})
        handle.model.requires_grad_(False)
        handle.quantized = "nf4"
        return handle

    return make


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ({"bnb_4bit_quant_type": "nf4"}, {}),
        ({"bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}, {"use_rslora": True, "alpha": 3}),
        ({"bnb_4bit_quant_type": "fp4"}, {"target_modules": ("q_proj", "down_proj")}),
    ],
)
def test_the_start_is_the_best_approximation_of_what_rounding_took(rounded, tiny_folder, context, options, settings):
    from bitsandbytes.functional import dequantize_4bit

    dense = load_file(tiny_folder / "model.safetensors")
    adapted = apply(rounded(**options), LoraSettings(rank=RANK, init="loftq", **settings), context)
    layers = {n: m for n, m in adapted.model.base_model.model.named_modules() if hasattr(m, "lora_A")}
    assert len(layers) == (4 if settings.get("target_modules") else 14)
    for name, layer in layers.items():
        packed = layer.get_base_layer().weight
        rest = dense[f"{name}.weight"] - dequantize_4bit(packed.data, packed.quant_state)
        left = rest - layer.get_delta_weight("default")
        tail = torch.linalg.svdvals(rest)[RANK:]
        torch.testing.assert_close(left.norm(), tail.norm(), rtol=1e-3, atol=1e-5)
        assert left.norm() < rest.norm()
    found = context.facts["loftq"]
    assert 0 < found["relative_error_at_start"] < found["relative_error_quantized"] < 1


def test_the_artifact_is_a_plain_lora_and_loading_it_does_not_start_again(rounded, context, tmp_path, monkeypatch):
    settings = LoraSettings(rank=RANK, init="loftq")
    adapted = apply(rounded(), settings, context)
    optimizer = torch.optim.AdamW(adapted.trainable().values(), lr=0.02)
    for _ in range(2):
        adapted.model(input_ids=IDS, labels=IDS).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    adapted.save(tmp_path)
    expected = adapted.model.eval()(IDS).logits
    assert json.loads((tmp_path / "adapter_config.json").read_text())["init_lora_weights"] is True
    monkeypatch.setattr(loftq, "start", lambda adapted: pytest.fail("it started again"))
    again = apply(rounded(), settings, context.with_(fresh=False))
    again.load(tmp_path)
    assert torch.equal(again.model.eval()(IDS).logits, expected)


def test_weights_that_the_base_was_not_made_of_are_refused(rounded, tiny_folder, context, tmp_path):
    handle = rounded()
    for file in tiny_folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    tensors = load_file(tmp_path / "model.safetensors")
    handle.model.name_or_path = str(tmp_path)
    name = "model.layers.0.self_attn.q_proj.weight"
    save_file({**tensors, name: tensors[name] + 0.05}, tmp_path / "model.safetensors")
    with pytest.raises(RecipeError, match="was rounded from, but the stored ones are others"):
        apply(handle, LoraSettings(rank=RANK, init="loftq"), context)


def test_weights_that_are_not_stored_are_refused(rounded, context, tmp_path):
    handle = rounded()
    handle.model.name_or_path = str(tmp_path)
    with pytest.raises(RecipeError, match="needs the dense weights of model.layers.0.self_attn.q_proj"):
        apply(handle, LoraSettings(rank=RANK, init="loftq"), context)


@pytest.mark.parametrize(
    ("quantized", "settings", "message"),
    [
        (None, {}, "took from the weights, and the base is dense"),
        ("int8", {}, r"no adapted layer of the base \(int8\) is in nf4 or fp4"),
        ("nf4", {"use_dora": True}, "DoRA takes its magnitudes"),
    ],
)
def test_what_does_not_fit_is_refused(tiny_handle, context, quantized, settings, message):
    tiny_handle.quantized = quantized
    with pytest.raises(RecipeError, match=message):
        apply(tiny_handle, LoraSettings(rank=RANK, init="loftq", **settings), context)
