"""An adapter on a head that shares its weights with the embedding: the tie is opened, and the embedding stays."""

from __future__ import annotations

import copy

import pytest
import torch
from transformers import AutoModelForCausalLM

from tunesmith import RecipeError, TunesmithError
from tunesmith_lora import LoraSettings
from tunesmith_lora.adapter import apply

IDS = torch.arange(3, 40).view(1, -1)


@pytest.fixture
def tied(tiny_handle):
    model = tiny_handle.model
    model.config.tie_word_embeddings = True
    model.lm_head.weight = model.model.embed_tokens.weight
    with torch.no_grad():
        model.lm_head.weight[258] = 0.1  # the row of the pad token, which is drawn as zeros
    return tiny_handle


def trained(adapted):
    optimizer = torch.optim.AdamW(adapted.trainable().values(), lr=0.05)
    for _ in range(3):
        adapted.model(input_ids=IDS, labels=IDS).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    adapted.model.eval()
    return adapted


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"target_modules": ("lm_head", "q_proj")},
        {"use_dora": True},
        {"use_rslora": True},
        {"init": "pissa"},
        {"init": "olora"},
        {"modules_to_save": ("embed_tokens",)},
    ],
    ids=str,
)
def test_the_merged_head_is_head_plus_update_and_the_embedding_stays(tied, context, tmp_path, settings):
    base, other = copy.deepcopy(tied.model), copy.deepcopy(tied)
    settings = LoraSettings(**{"rank": 4, "alpha": 8, "target_modules": ("lm_head",), **settings})
    adapted = trained(apply(tied, settings, context))
    expected = adapted.model(IDS).logits
    assert not torch.allclose(expected, base(IDS).logits, atol=0.1)
    with adapted.disabled() as model:
        torch.testing.assert_close(model(IDS).logits, base(IDS).logits, rtol=1e-4, atol=1e-4)
    (tmp_path / "adapter").mkdir()
    adapted.save(tmp_path / "adapter")
    again = apply(other, settings, context)
    again.load(tmp_path / "adapter")
    torch.testing.assert_close(again.model.eval()(IDS).logits, expected, rtol=1e-5, atol=1e-5)
    merged = again.merge()
    torch.testing.assert_close(merged(IDS).logits, expected, rtol=1e-4, atol=1e-4)
    if not settings.modules_to_save:
        assert torch.equal(merged.model.embed_tokens.weight, base.model.embed_tokens.weight)
    if not (settings.use_dora or settings.use_rslora or settings.init != "default"):
        layer = adapted.model.base_model.model.lm_head
        update = layer.lora_B["default"].weight @ layer.lora_A["default"].weight * 8 / 4
        torch.testing.assert_close(merged.lm_head.weight, base.lm_head.weight + update)
    assert merged.config.tie_word_embeddings is False
    merged.save_pretrained(tmp_path / "model")
    reloaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    assert reloaded.lm_head.weight is not reloaded.model.embed_tokens.weight
    torch.testing.assert_close(reloaded(IDS).logits, merged(IDS).logits)


def test_a_merge_that_changes_another_weight_is_refused(tied, context, monkeypatch):
    monkeypatch.setattr("tunesmith_transformers.peft.adapted.open_ties", lambda model: None)
    adapted = trained(apply(tied, LoraSettings(rank=4, target_modules=("lm_head", "q_proj")), context))
    with pytest.raises(TunesmithError, match="the merged model is not the tuned one"):
        adapted.merge()


def test_one_layer_is_not_adapted_and_trained_in_full(tied, context):
    settings = LoraSettings(rank=4, target_modules=("lm_head",), modules_to_save=("lm_head",))
    with pytest.raises(RecipeError, match="lm_head is in target_modules and in modules_to_save"):
        apply(tied, settings, context)


def test_dora_does_not_divide_by_the_length_of_a_row_of_zeros(tied, context):
    with torch.no_grad():
        tied.model.lm_head.weight[258] = 0
    with pytest.raises(RecipeError, match="have rows of zeros"):
        apply(tied, LoraSettings(rank=4, target_modules=("lm_head",), use_dora=True), context)


def test_an_adapter_beside_the_head_leaves_the_tie(tied, context):
    merged = trained(apply(tied, LoraSettings(rank=4, target_modules=("q_proj",)), context)).merge()
    assert merged.lm_head.weight is merged.model.embed_tokens.weight
    assert merged.config.tie_word_embeddings is True
