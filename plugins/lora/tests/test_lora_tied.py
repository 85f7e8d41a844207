"""Head and embedding that share their weights stay one when either is trained in full."""

from __future__ import annotations

import copy

import pytest
import torch

from tunesmith import RecipeError
from tunesmith_lora import LoraSettings
from tunesmith_lora.adapter import apply, parameters

IDS = torch.arange(3, 40).view(1, -1)


@pytest.fixture
def tied(tiny_handle):
    model = tiny_handle.model
    model.config.tie_word_embeddings = True
    model.lm_head.weight = model.model.embed_tokens.weight
    return tiny_handle


@pytest.mark.parametrize("names", [("lm_head",), ("embed_tokens",), ("lm_head", "embed_tokens", "norm")])
@pytest.mark.parametrize("init", ["default", "pissa"])
def test_either_is_trained_and_the_tie_holds(tied, context, tmp_path, names, init):
    base, other = copy.deepcopy(tied.model), copy.deepcopy(tied)
    settings = LoraSettings(rank=2, target_modules=("q_proj",), init=init, modules_to_save=names)
    expected_count = parameters(tied.model, settings)
    assert expected_count == 2 * 2 * (32 + 32) + 259 * 32 + (32 if "norm" in names else 0)
    adapted = apply(tied, settings, context)
    assert sum(p.numel() for p in adapted.trainable().values()) == expected_count
    optimizer = torch.optim.AdamW(adapted.trainable().values(), lr=0.02)
    for _ in range(2):
        adapted.model(input_ids=IDS, labels=IDS).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    expected = adapted.model.eval()(IDS).logits
    with adapted.disabled() as model:
        torch.testing.assert_close(model(IDS).logits, base(IDS).logits, rtol=1e-4, atol=1e-4)
    adapted.save(tmp_path)
    again = apply(other, settings, context)
    again.load(tmp_path)
    assert torch.equal(again.model.eval()(IDS).logits, expected)
    merged = again.merge()
    assert merged.lm_head.weight is merged.model.embed_tokens.weight
    assert not torch.equal(merged.lm_head.weight, base.lm_head.weight)
    torch.testing.assert_close(merged(IDS).logits, expected, rtol=1e-4, atol=1e-4)


def test_a_tie_that_the_models_class_does_not_know_is_refused(tiny_handle, context):
    model = tiny_handle.model
    model.lm_head.weight = model.model.embed_tokens.weight
    model.config.tie_word_embeddings = False
    with pytest.raises(RecipeError, match="PEFT would train a copy of one alone"):
        apply(tiny_handle, LoraSettings(modules_to_save=("lm_head",)), context)
