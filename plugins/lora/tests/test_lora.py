"""LoRA is what it says: rank, parameters, variants, PEFT's own layout, and what does not fit is refused."""

from __future__ import annotations

import copy
import math

import pytest
import torch

import tunesmith_lora
from tunesmith import DataError, RecipeError
from tunesmith_lora import LoraSettings
from tunesmith_lora.adapter import apply, parameters


def trained(handle, settings, context, steps=3):
    adapted = apply(handle, settings, context)
    optimizer = torch.optim.AdamW(adapted.trainable().values(), lr=0.05)
    ids = torch.arange(3, 40).view(1, -1)
    for _ in range(steps):
        adapted.model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return adapted


def test_the_plugin_passes_the_kit(check_plugin):
    check_plugin(tunesmith_lora)


def test_the_update_has_at_most_the_rank(tiny_handle, context):
    base = copy.deepcopy(tiny_handle.model)
    merged = trained(tiny_handle, LoraSettings(rank=3), context).merge()
    before, after = dict(base.named_parameters()), dict(merged.named_parameters())
    updated = 0
    for name, weight in after.items():
        change = weight.detach() - before[name].detach()
        if change.abs().max() > 0:
            assert torch.linalg.matrix_rank(change, atol=1e-5) == 3
            updated += 1
    assert updated == 14  # seven linear layers in each of two blocks; the head stays


@pytest.mark.parametrize("dora", [False, True])
def test_parameters_follow_the_formula(tiny_handle, context, dora):
    settings = LoraSettings(rank=4, use_dora=dora)
    expected = parameters(tiny_handle.model, settings)
    # hidden 32, keys and values 16, inner 64, two blocks
    shapes = [(32, 32), (32, 16), (32, 16), (32, 32), (32, 64), (32, 64), (64, 32)]
    by_hand = 2 * sum(4 * (a + b) + (b if dora else 0) for a, b in shapes)
    assert expected == by_hand
    assert sum(p.numel() for p in apply(tiny_handle, settings, context).trainable().values()) == by_hand


@pytest.mark.parametrize(("rslora", "scale"), [(False, 8 / 4), (True, 8 / math.sqrt(4))])
def test_the_scale(tiny_handle, context, rslora, scale):
    adapted = apply(tiny_handle, LoraSettings(rank=4, alpha=8, use_rslora=rslora), context)
    layer = adapted.model.get_base_model().model.layers[0].self_attn.q_proj
    assert layer.scaling["default"] == pytest.approx(scale)


def test_peft_reads_the_artifact(tiny_handle, context, tmp_path):
    from peft import PeftModel

    base = copy.deepcopy(tiny_handle.model)
    adapted = trained(tiny_handle, LoraSettings(rank=4), context)
    adapted.save(tmp_path)
    loaded = PeftModel.from_pretrained(base, tmp_path).eval()
    ids = torch.tensor([[5, 6, 7]])
    adapted.model.eval()
    torch.testing.assert_close(loaded(ids).logits, adapted.model(ids).logits, rtol=0, atol=0)


def test_an_adapter_of_another_rank_is_refused(tiny_handle, context, tmp_path):
    other, third = copy.deepcopy(tiny_handle), copy.deepcopy(tiny_handle)
    apply(tiny_handle, LoraSettings(rank=4), context).save(tmp_path)
    with pytest.raises(DataError, match="tensors differ"):
        apply(other, LoraSettings(rank=2), context).load(tmp_path)
    with pytest.raises(DataError, match="no adapter weights"):
        apply(third, LoraSettings(rank=4), context).load(tmp_path / "nowhere")


def test_unknown_targets_list_those_that_exist(tiny_handle, context):
    with pytest.raises(RecipeError, match="no linear layer called 'c_attn'") as error:
        apply(tiny_handle, LoraSettings(target_modules=("c_attn",)), context)
    assert "q_proj" in str(error.value)


def test_a_rank_over_the_layers_size_is_refused(tiny_handle, context):
    with pytest.raises(RecipeError, match="rank = 17 is over the size of .*k_proj"):
        apply(tiny_handle, LoraSettings(rank=17), context)
