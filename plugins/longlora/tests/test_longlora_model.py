"""In a model: groups while it trains and only then, in every family, with the base behind it."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
import transformers

from tunesmith import ModelHandle, RecipeError
from tunesmith_longlora import LongLoraSettings
from tunesmith_longlora.adapter import apply
from tunesmith_longlora.check import check

H, VOCABULARY = 32, 96
BASE = {
    "vocab_size": VOCABULARY,
    "hidden_size": H,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "initializer_range": 0.2,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
GROUPED = {**BASE, "num_key_value_heads": 2}
ODD = {**BASE, "hidden_size": 36, "num_attention_heads": 9, "num_key_value_heads": 3}
FAMILIES = {
    "Llama": GROUPED,
    "Mistral": {**GROUPED, "sliding_window": None},
    "Qwen2": GROUPED,
    "Qwen3": {**GROUPED, "head_dim": 16},
    "Gemma": {**GROUPED, "head_dim": 16},
    "Phi3": GROUPED,
    "GPTNeoX": BASE,
}
SETTINGS = LongLoraSettings(rank=2, group_size=4)


def build(family, **options):
    """A small model of a family, the same one in every call."""
    config = getattr(transformers, f"{family}Config")(**{**FAMILIES.get(family, BASE), **options})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = getattr(transformers, f"{family}ForCausalLM")(config).float().eval()
    model.requires_grad_(False)
    return ModelHandle(model, None, family, "digest", max_length=config.max_position_embeddings)


def ids(length=18, rows=2):
    return torch.randint(3, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_trains_in_groups_and_answers_with_full_attention(family, context):
    handle = build(family)
    expected = handle.model(ids()).logits
    adapted = apply(handle, SETTINGS, context)
    torch.testing.assert_close(adapted.model.eval()(ids()).logits, expected, rtol=0, atol=1e-5)
    sparse = adapted.model.train()(ids()).logits
    torch.testing.assert_close(sparse[:, :4], expected[:, :4], rtol=0, atol=1e-5)  # within the first group
    assert (sparse[:, 4:] - expected[:, 4:]).abs().max() > 1e-3
    sparse.sum().backward()
    assert all(p.grad is not None for p in adapted.trainable().values())


@pytest.mark.parametrize("options", [GROUPED, ODD], ids=["4 of 2", "9 of 3"])
def test_a_group_as_long_as_the_row_trains_like_full_attention(options, context):
    handle = build("Llama", **options)
    expected = handle.model(ids()).logits
    model = apply(handle, LongLoraSettings(rank=2, group_size=18), context).model.train()
    torch.testing.assert_close(model(ids()).logits, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("options", [GROUPED, ODD], ids=["4 of 2", "9 of 3"])
def test_a_later_token_never_changes_an_earlier_output(options, context):
    model = apply(build("Llama", **options), SETTINGS, context).model.train()
    before = model(ids()).logits
    for position in (1, 4, 5, 6, 9, 17):
        changed = ids()
        changed[:, position] = (changed[:, position] + 7) % VOCABULARY
        after = model(changed).logits
        assert torch.equal(after[:, :position], before[:, :position])
        assert not torch.equal(after[:, position:], before[:, position:])


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_row_trains_the_same_alone_and_padded_beside_a_longer_one(side, context):
    model = apply(build("Llama"), SETTINGS, context).model.train()
    long, short = ids(18, 1), ids(7, 1)
    padding = torch.zeros(1, 11, dtype=torch.long)
    pair = [short, padding] if side == "right" else [padding, short]
    batch = torch.cat([long, torch.cat(pair, 1)])
    mask = torch.ones_like(batch)
    own = slice(0, 7) if side == "right" else slice(11, 18)
    mask[1] = 0
    mask[1, own] = 1
    together = model(input_ids=batch, attention_mask=mask).logits
    torch.testing.assert_close(together[0], model(long).logits[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(together[1, own], model(short).logits[0], rtol=0, atol=1e-5)


def test_no_mask_over_the_whole_row_is_made_while_training(context, monkeypatch):
    handle = build("Llama")
    adapted = apply(handle, SETTINGS, context)
    masks = []
    for layer in handle.model.model.layers:
        layer.self_attn.register_forward_pre_hook(
            lambda module, arguments, named: masks.append(named["attention_mask"]), with_kwargs=True
        )
    mask = torch.ones(2, 18, dtype=torch.long)
    mask[1, 12:] = 0
    adapted.model.train()(input_ids=ids(), attention_mask=mask)
    assert [found.numel() for found in masks] == [0, 0]
    adapted.model(input_ids=ids(), attention_mask=mask.flip(1))
    assert [found.numel() for found in masks[2:]] == [36, 36]


def test_generation_uses_full_attention_in_either_mode(context):
    handle = build("Llama")
    prompt = ids(15, 1)
    expected = handle.model.generate(prompt, max_new_tokens=6, do_sample=False)
    adapted = apply(handle, SETTINGS, context)
    for train in (False, True):
        adapted.model.train(train)
        assert torch.equal(handle.model.generate(prompt, max_new_tokens=6, do_sample=False), expected)


@pytest.mark.parametrize("own", ["eager", "sdpa"])
def test_disabled_is_the_base_in_training_mode_too(own, context):
    handle = build("Llama")
    handle.model.set_attn_implementation(own)
    base = copy.deepcopy(handle.model)
    adapted = apply(handle, replace(SETTINGS, scale=4), context)
    with torch.no_grad():
        for parameter in adapted.trainable().values():
            parameter.add_(0.1)
    adapted.model.train()
    before = adapted.model(ids()).logits
    with adapted.disabled() as model:
        assert torch.equal(model(ids()).logits, base.train()(ids()).logits)
        assert handle.model.config._attn_implementation == own
    assert torch.equal(adapted.model(ids()).logits, before)


def test_a_reference_between_forward_and_backward_leaves_the_gradients_alone(context):
    """Preference trainers ask the disabled adapter in between, and checkpointing computes layers again later."""
    found = []
    for between in (False, True):
        handle = build("Llama")
        torch.manual_seed(0)
        adapted = apply(handle, replace(SETTINGS, scale=2), context)
        handle.model.gradient_checkpointing_enable({"use_reentrant": False})
        adapted.model.train()
        loss = adapted.model(input_ids=ids(), labels=ids()).loss
        if between:
            with torch.no_grad(), adapted.disabled() as model:
                model(ids())
        loss.backward()
        found.append({name: p.grad for name, p in adapted.trainable().items()})
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


REFUSED = {
    "a window": ("Mistral", {"sliding_window": 16}, "a window of 16 tokens"),
    "capped logits": (
        "Gemma2",
        {"num_key_value_heads": 2, "head_dim": 16},
        "AttentionInterface|caps the logits|window",
    ),
    "learned positions": ("OPT", {"ffn_dim": 48, "word_embed_proj_dim": H}, "no rotary positions"),
    "both directions": ("Bert", {"is_decoder": False}, "not causal self-attention|AttentionInterface|no rotary"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_attention_of_another_kind_is_refused(case, context):
    family, options, reason = REFUSED[case]
    if family == "Bert":
        model = transformers.BertForMaskedLM(transformers.BertConfig(**{**BASE, **options}))
        handle = ModelHandle(model, None, family, "digest", max_length=64)
    else:
        handle = build(family, **options)
    with pytest.raises(RecipeError, match=f"longlora cannot train .*({reason})"):
        apply(handle, SETTINGS, context)


def test_a_window_that_no_row_reaches_is_none(context):
    adapted = apply(build("Mistral", sliding_window=64), SETTINGS, context)
    assert adapted.model.train()(ids()).logits.shape == (2, 18, VOCABULARY)


def test_rows_packed_into_one_and_foreign_masks_are_refused(context):
    model = apply(build("Llama"), SETTINGS, context).model.train()
    packed = torch.cat([torch.arange(9), torch.arange(9)])[None]
    with pytest.raises(RecipeError, match="packed into one"):
        model(input_ids=ids(18, 1), position_ids=packed)
    with pytest.raises(RecipeError, match="mask of padding"):
        model(input_ids=ids(), attention_mask=torch.ones(2, 1, 18, 18, dtype=torch.bool))


def test_an_odd_group_is_refused_when_the_plan_is_made(tmp_path):
    with pytest.raises(RecipeError, match="group_size = 5 is odd"):
        check(LongLoraSettings(group_size=5), tmp_path)


def test_the_group_is_a_quarter_of_the_scaled_positions(context):
    assert apply(build("Llama"), LongLoraSettings(scale=4), context).group_size == 64
    assert apply(build("Llama", max_position_embeddings=90), LongLoraSettings(), context).group_size == 22
