"""Each method is what it says: what it adds, how many parameters that is, and where it starts."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tunesmith import RecipeError
from tunesmith_soft_prompts import PrefixSettings, PromptSettings, PTuningSettings, check
from tunesmith_soft_prompts.adapters import p_tuning, prefix, prompt

TEXT = "Add the two:"  # twelve bytes, and as many tokens
ROW = torch.tensor([[5, 6, 7, 8]])


def count(adapted):
    return sum(p.numel() for p in adapted.trainable().values())


def after_the_text(model, tokenizer):
    """What the base answers to ROW when TEXT stands in front of it."""
    ids = torch.tensor([tokenizer(TEXT)["input_ids"]])
    with torch.no_grad():
        return model(torch.cat((ids, ROW), dim=1)).logits[:, ids.shape[1] :]


def answers(adapted):
    adapted.model.eval()
    with torch.no_grad():
        return adapted.model(ROW).logits[:, -ROW.shape[1] :]


# --- prompt -------------------------------------------------------------------------------------
def test_prompt_trains_virtual_tokens_times_hidden(tiny_handle, context):
    adapted = prompt(tiny_handle, PromptSettings(virtual_tokens=7), context)
    assert count(adapted) == 7 * 32
    assert adapted.model(ROW).logits.shape[1] == 7 + 4


def test_a_prompt_from_a_text_starts_as_that_text(tiny_handle, context):
    base = copy.deepcopy(tiny_handle.model)
    adapted = prompt(tiny_handle, PromptSettings(virtual_tokens=12, init="text", init_text=TEXT), context)
    torch.testing.assert_close(answers(adapted), after_the_text(base, tiny_handle.tokenizer))


@pytest.mark.parametrize(("tokens", "expected"), [(3, "Add"), (15, "Add the two:Add")])
def test_a_text_is_cut_or_repeated(tiny_handle, context, tokens, expected):
    adapted = prompt(tiny_handle, PromptSettings(virtual_tokens=tokens, init="text", init_text=TEXT), context)
    ids = torch.tensor(tiny_handle.tokenizer(expected)["input_ids"])
    torch.testing.assert_close(adapted.encoder.embedding.weight, tiny_handle.model.get_input_embeddings()(ids))


def test_a_vocabulary_sample_holds_embeddings_of_tokens(tiny_handle, context):
    torch.manual_seed(3)
    adapted = prompt(tiny_handle, PromptSettings(virtual_tokens=6), context)
    embeddings = tiny_handle.model.get_input_embeddings().weight
    exact = "donot_use_mm_for_euclid_dist"  # through a matrix product the distance of a vector to itself is not 0
    distances = torch.cdist(adapted.encoder.embedding.weight, embeddings, compute_mode=exact)
    assert distances.min(dim=1).values.max() < 1e-5
    assert len(set(distances.argmin(dim=1).tolist())) > 1


def test_noise_is_on_the_scale_of_the_embeddings(tiny_handle, context):
    adapted = prompt(tiny_handle, PromptSettings(virtual_tokens=200, init="random"), context)
    own = adapted.encoder.embedding.weight
    embeddings = tiny_handle.model.get_input_embeddings().weight
    assert own.std().item() == pytest.approx(embeddings.std().item(), rel=0.05)


# --- prefix -------------------------------------------------------------------------------------
def test_prefix_changes_the_keys_and_values_of_every_layer(tiny_handle, context):
    adapted = prefix(tiny_handle, PrefixSettings(virtual_tokens=5, init="random"), context)
    assert count(adapted) == 5 * 2 * 2 * 2 * 8  # keys and values, layers, kv heads, head dim
    cache = adapted.model(ROW, use_cache=True).past_key_values
    trained = adapted.encoder.embedding.weight.view(5, 2, 2, 2, 8)  # tokens, layers, keys and values, heads, dim
    assert len(cache.layers) == 2
    for number, layer in enumerate(cache.layers):
        for place, part in enumerate((layer.keys, layer.values)):
            assert part.shape[2] == 5 + 4
            torch.testing.assert_close(part[0, :, :5], trained[:, number, place].transpose(0, 1))


def test_a_prefix_starts_at_zero(tiny_handle, context):
    adapted = prefix(tiny_handle, PrefixSettings(virtual_tokens=5), context)
    assert not adapted.encoder.embedding.weight.any()


def test_a_prefix_from_a_text_acts_as_that_text(tiny_handle, context):
    base = copy.deepcopy(tiny_handle.model)
    adapted = prefix(tiny_handle, PrefixSettings(virtual_tokens=12, init="text", init_text=TEXT), context)
    torch.testing.assert_close(answers(adapted), after_the_text(base, tiny_handle.tokenizer))


def test_a_projection_computes_the_prefix(tiny_handle, context):
    adapted = prefix(tiny_handle, PrefixSettings(virtual_tokens=5, projection=True, projection_size=6), context)
    width = 2 * 8
    assert count(adapted) == 5 * width + (width * 6 + 6) + (6 * 4 * width + 4 * width)
    cache = adapted.model(ROW, use_cache=True).past_key_values
    assert not cache.layers[1].values[:, :, :5].any()  # its last layer starts at zero
    assert {name.split(".")[0] for name, _ in adapted.encoder.named_parameters()} == {"embedding", "transform"}


def test_activation_checkpointing_is_refused_for_a_prefix(tiny_handle, context):
    adapted = prefix(tiny_handle, PrefixSettings(virtual_tokens=5), context)
    adapted.begin(10)
    tiny_handle.model.gradient_checkpointing_enable()
    with pytest.raises(RecipeError, match="cannot be trained with activation checkpointing"):
        adapted.begin(10)


# --- p-tuning -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("settings", "encoder"),
    [
        ({"encoder_size": 6}, (32 * 6 + 6) + (6 * 6 + 6) + (6 * 32 + 32)),
        (
            {"encoder_size": 6, "encoder": "lstm"},
            # two directions of four gates, twice; then two linear layers
            8 * (6 * 32 + 36 + 12) + 8 * (6 * 12 + 36 + 12) + (12 * 12 + 12) + (12 * 32 + 32),
        ),
    ],
)
def test_the_encoder_of_p_tuning_produces_the_virtual_tokens(tiny_handle, context, settings, encoder):
    adapted = p_tuning(tiny_handle, PTuningSettings(virtual_tokens=5, **settings), context)
    assert count(adapted) == 5 * 32 + encoder
    seen = []
    hook = tiny_handle.model.model.register_forward_pre_hook(
        lambda module, arguments, options: seen.append(options["inputs_embeds"]), with_kwargs=True
    )
    adapted.model(ROW)
    hook.remove()
    torch.testing.assert_close(seen[0][0, :5], adapted.encoder(torch.arange(5).unsqueeze(0))[0])
    torch.testing.assert_close(seen[0][:, 5:], tiny_handle.model.get_input_embeddings()(ROW))


# --- all of them --------------------------------------------------------------------------------
ALL = [(prompt, PromptSettings), (prefix, PrefixSettings), (p_tuning, PTuningSettings)]


@pytest.mark.parametrize(("method", "settings"), ALL)
def test_virtual_tokens_take_part_of_the_context(tiny_handle, context, method, settings):
    assert method(tiny_handle, settings(virtual_tokens=24), context).handle.max_length == 1000
    with pytest.raises(RecipeError, match="virtual_tokens = 1024 leaves no room .* takes 1024 tokens"):
        method(tiny_handle, settings(virtual_tokens=1024), context)


@pytest.mark.parametrize(("method", "settings"), ALL)
def test_models_with_another_head_are_refused(tiny_handle, context, method, settings):
    with pytest.raises(RecipeError, match="has a 'scalar' head"):
        method(replace(tiny_handle, head="scalar"), settings(), context)


@pytest.mark.parametrize(
    ("checked", "settings", "message"),
    [
        (check.prompt, PromptSettings(init="text"), "needs a text"),
        (check.prompt, PromptSettings(init_text="x"), "init_text has no effect"),
        (check.prefix, PrefixSettings(init="text", init_text="x", projection=True), "projection = true computes them"),
        (check.prefix, PrefixSettings(projection_size=4), "no effect without a projection"),
        (check.p_tuning, PTuningSettings(lstm_layers=3), 'no effect with encoder = "mlp"'),
        (check.p_tuning, PTuningSettings(encoder="lstm", lstm_layers=1, lstm_dropout=0.1), "lstm_layers = 1"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(checked, settings, message):
    with pytest.raises(RecipeError, match=message):
        checked(settings, Path())
