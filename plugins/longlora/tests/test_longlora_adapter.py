"""What is trained: low-rank updates, norms and embeddings, counted by hand; and ties that hold."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from transformers import LlamaForCausalLM

from tunesmith import RecipeError
from tunesmith_longlora import LongLoraSettings
from tunesmith_longlora.adapter import apply, parameters

IDS = torch.arange(3, 40).view(1, -1)
VOCABULARY, H = 259, 32
SETTINGS = LongLoraSettings(rank=4, group_size=8)
#: Queries, keys, values and output of two blocks, at rank 4.
LOW_RANK = 2 * 4 * ((32 + 32) + (32 + 16) + (32 + 16) + (32 + 32))
NORMS = 5 * H


@pytest.fixture
def tied_handle(tiny_handle):
    """The tiny model with one tensor as input embeddings and head."""
    config = copy.deepcopy(tiny_handle.model.config)
    config.tie_word_embeddings = True
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(config).float().eval()
    model.requires_grad_(False)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    return replace(tiny_handle, model=model)


def trained(handle, settings, context, steps=3):
    adapted = apply(handle, settings, context)
    optimizer = torch.optim.AdamW(adapted.trainable().values(), lr=0.05)
    adapted.model.train()
    for _ in range(steps):
        adapted.model(input_ids=IDS, labels=IDS).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    adapted.model.eval()
    return adapted


@pytest.mark.parametrize("norms", [True, False])
@pytest.mark.parametrize("embeddings", [True, False])
def test_parameters_are_those_of_the_formula(norms, embeddings, tiny_handle, context):
    settings = replace(SETTINGS, train_norms=norms, train_embeddings=embeddings)
    by_hand = LOW_RANK + norms * NORMS + embeddings * VOCABULARY * H
    assert parameters(tiny_handle.model, settings) == by_hand
    base = {name: tensor.clone() for name, tensor in tiny_handle.model.state_dict().items()}
    adapted = trained(tiny_handle, settings, context)
    assert sum(p.numel() for p in adapted.trainable().values()) == by_hand
    with adapted.disabled() as model:
        model.eval()
        now = {name: tensor for name, tensor in model.state_dict().items() if ".lora_" not in name}
    assert all(any(torch.equal(tensor, kept) for kept in now.values()) for tensor in base.values())


def test_only_norms_embeddings_and_low_rank_updates_move(tiny_handle, context):
    names = {
        name.partition(".modules_to_save")[0].rpartition(".")[2] if "lora_" not in name else "lora"
        for name in trained(tiny_handle, SETTINGS, context).trainable()
    }
    assert names == {"lora", "input_layernorm", "post_attention_layernorm", "norm", "embed_tokens"}


def test_a_head_that_shares_the_embeddings_moves_with_them(tied_handle, context, tmp_path):
    fresh = copy.deepcopy(tied_handle)
    adapted = trained(tied_handle, SETTINGS, context)
    assert sum(p.numel() for p in adapted.trainable().values()) == parameters(fresh.model, SETTINGS)
    inner = adapted.model.get_base_model()
    moved = inner.model.embed_tokens.weight
    assert moved is inner.lm_head.weight
    assert not torch.equal(moved, fresh.model.model.embed_tokens.weight)
    adapted.save(tmp_path)
    saved = load_file(tmp_path / "adapter_model.safetensors")
    assert torch.equal(saved["base_model.model.model.embed_tokens.weight"], moved)
    loaded = apply(fresh, SETTINGS, context)
    loaded.load(tmp_path)
    answer = adapted.model(IDS).logits
    assert torch.equal(loaded.model.eval()(IDS).logits, answer)
    merged = adapted.merge()
    assert merged.lm_head.weight is merged.model.embed_tokens.weight
    assert torch.equal(merged.lm_head.weight, moved)
    torch.testing.assert_close(merged(IDS).logits, answer, rtol=0, atol=1e-4)


def test_ties_hold_where_embeddings_are_not_trained(tied_handle, context):
    adapted = trained(tied_handle, replace(SETTINGS, train_embeddings=False), context)
    assert not any("embed" in name or "head" in name for name in adapted.trainable())
    merged = adapted.merge()
    assert merged.lm_head.weight is merged.model.embed_tokens.weight


def test_peft_reads_the_artifact_on_a_base_with_the_described_positions(tied_handle, context, tmp_path):
    from peft import PeftModel

    base = copy.deepcopy(tied_handle.model)
    adapted = trained(tied_handle, replace(SETTINGS, scale=4), context)
    adapted.save(tmp_path)
    config = copy.deepcopy(base.config)
    for name, value in adapted.positions.describe().items():
        setattr(config, name, value)
    other = LlamaForCausalLM(config).eval()
    other.load_state_dict(base.state_dict())
    loaded = PeftModel.from_pretrained(other, tmp_path).eval()
    torch.testing.assert_close(loaded(IDS).logits, adapted.model(IDS).logits, rtol=0, atol=0)


def test_attention_means_its_linear_layers_alone(tiny_handle, context):
    adapted = apply(tiny_handle, SETTINGS, context)
    assert sorted({name.rpartition(".")[2] for name in adapted.config.target_modules}) == [
        "k_proj",
        "o_proj",
        "q_proj",
        "v_proj",
    ]


def test_what_does_not_fit_is_refused(tiny_handle, context):
    with pytest.raises(RecipeError, match="no linear layer called 'query'"):
        apply(tiny_handle, replace(SETTINGS, target_modules=("query",)), context)
    with pytest.raises(RecipeError, match="rank = 20 is over the size"):
        apply(tiny_handle, replace(SETTINGS, rank=20), context)
