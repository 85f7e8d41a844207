"""Scaled positions are what their sources say, reach trainer and artifact, and leave with the adapter."""

from __future__ import annotations

import copy
import json

import pytest
import torch
import transformers

from tunesmith import DataError, RecipeError
from tunesmith_longlora import LongLoraSettings
from tunesmith_longlora.adapter import apply

OWN = 1024  # positions of the tiny model
IDS = torch.arange(3, 60).view(1, -1)


def settings(scale=4.0, rope="linear", **options):
    return LongLoraSettings(scale=scale, rope=rope, rank=2, group_size=16, **options)


def frequencies(handle):
    return handle.model.model.rotary_emb.inv_freq


def test_linear_divides_the_positions(tiny_handle, context):
    base = copy.deepcopy(tiny_handle.model)
    adapted = apply(tiny_handle, settings(), context)
    divided = torch.arange(IDS.shape[1])[None] / 4
    expected = base(IDS, position_ids=divided, attention_mask=torch.ones_like(IDS)).logits
    torch.testing.assert_close(adapted.model.eval()(IDS).logits, expected, rtol=0, atol=1e-4)


def test_ntk_divides_the_lowest_frequency_and_keeps_the_highest(tiny_handle, context):
    own = frequencies(tiny_handle).clone()
    apply(tiny_handle, settings(rope="ntk"), context)
    scaled = frequencies(tiny_handle)
    assert scaled[0] == own[0]
    torch.testing.assert_close(scaled[-1], own[-1] / 4)


def test_yarn_keeps_high_frequencies_divides_low_ones_and_raises_the_logits(tiny_handle, context):
    apply(tiny_handle, settings(rope="yarn"), context)
    config = transformers.LlamaConfig(
        **{
            **tiny_handle.model.config.to_dict(),
            "max_position_embeddings": 4 * OWN,
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 10000.0,
                "factor": 4.0,
                "original_max_position_embeddings": OWN,
            },
        }
    )
    expected = transformers.models.llama.modeling_llama.LlamaRotaryEmbedding(config)
    rotary = tiny_handle.model.model.rotary_emb
    torch.testing.assert_close(rotary.inv_freq, expected.inv_freq)
    assert rotary.attention_scaling == pytest.approx(0.1 * torch.log(torch.tensor(4.0)).item() + 1)


@pytest.mark.parametrize("rope", ["linear", "ntk", "yarn"])
def test_the_trainer_may_take_longer_rows_and_the_base_keeps_its_positions(rope, tiny_handle, context):
    expected = tiny_handle.model(IDS).logits
    adapted = apply(tiny_handle, settings(rope=rope), context)
    assert adapted.handle.max_length == 4 * OWN == tiny_handle.model.config.max_position_embeddings
    adapted.model.eval()
    scaled = adapted.model(IDS).logits
    assert (scaled - expected).abs().max() > 1e-3
    with adapted.disabled() as model:
        assert torch.equal(model(IDS).logits, expected)
        assert model.config.max_position_embeddings == OWN
    assert torch.equal(adapted.model(IDS).logits, scaled)


def test_with_scale_1_the_model_starts_as_the_base(tiny_handle, context):
    expected = tiny_handle.model(IDS).logits
    adapted = apply(tiny_handle, settings(scale=1), context)
    assert torch.equal(adapted.model.eval()(IDS).logits, expected)
    assert adapted.handle.max_length == OWN


@pytest.mark.parametrize("rope", ["linear", "ntk", "yarn"])
def test_the_merged_model_is_plain_and_keeps_its_positions_on_disk(rope, tiny_handle, context, tmp_path):
    adapted = apply(tiny_handle, settings(rope=rope), context)
    with torch.no_grad():
        for parameter in adapted.trainable().values():
            parameter.add_(0.02)
    expected = adapted.model.eval()(IDS).logits
    merged = adapted.merge()
    torch.testing.assert_close(merged(IDS).logits, expected, rtol=0, atol=1e-3)
    assert merged.config._attn_implementation == "sdpa"
    torch.testing.assert_close(merged.train()(IDS).logits, merged.eval()(IDS).logits, rtol=0, atol=0)
    merged.save_pretrained(tmp_path)
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(again(IDS).logits, merged(IDS).logits)
    assert again.config.max_position_embeddings == 4 * OWN


def test_an_artifact_for_other_positions_is_refused(tiny_handle, context, tmp_path):
    other = copy.deepcopy(tiny_handle)
    apply(tiny_handle, settings(), context).save(tmp_path)
    assert json.loads((tmp_path / "longlora_config.json").read_text())["max_position_embeddings"] == 4 * OWN
    again = apply(other, settings(scale=2), context)
    with pytest.raises(DataError, match="max_position_embeddings, rope_parameters differ"):
        again.load(tmp_path)
    (tmp_path / "longlora_config.json").unlink()
    with pytest.raises(DataError, match="cannot be read"):
        again.load(tmp_path)


def test_linear_goes_on_from_linear(tiny_handle, context):
    first = apply(tiny_handle, settings(scale=2), context)
    first.merge().requires_grad_(False)
    second = apply(tiny_handle, settings(scale=2), context)
    assert second.describe()["rope_parameters"]["factor"] == 4
    assert tiny_handle.max_length == 4 * OWN


def test_positions_that_are_scaled_otherwise_are_refused(tiny_handle, context):
    apply(tiny_handle, settings(rope="yarn"), context).merge()
    with pytest.raises(RecipeError, match="they are yarn already"):
        apply(tiny_handle, settings(), context)
