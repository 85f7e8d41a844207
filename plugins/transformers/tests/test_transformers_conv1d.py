"""Adapters of PEFT on GPT-2, whose linear layers are `Conv1D` with transposed weights."""

from __future__ import annotations

import copy
import importlib
import warnings
from dataclasses import replace

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from tunesmith import RecipeError

IDS = torch.arange(3, 40).view(1, -1)
# attention 32 -> 96, its output 32 -> 32, feed-forward 32 -> 48 -> 32, in two blocks
SIDES = [(32, 96), (32, 32), (32, 48), (48, 32)]


@pytest.fixture
def gpt2(tiny_handle):
    config = GPT2Config(
        vocab_size=259, n_embd=32, n_layer=2, n_head=4, n_positions=64, n_inner=48, initializer_range=0.2,
        bos_token_id=None, eos_token_id=257,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = GPT2LMHeadModel(config).eval()
    model.requires_grad_(False)
    return replace(tiny_handle, model=model, max_length=64)


def adapter(plugin, name, **settings):
    module = importlib.import_module(f"tunesmith_{plugin}")
    record = next(record for record in module.tunesmith_adapters() if record.name == name)
    return record, record.settings(**settings)


def trained(adapted, steps=3):
    optimizer = torch.optim.AdamW(adapted.trainable().values(), lr=0.02)
    adapted.begin(steps)
    for step in range(steps):
        adapted.model(input_ids=IDS, labels=IDS).loss.backward()
        optimizer.step()
        adapted.after_step(step + 1, steps)
        optimizer.zero_grad()
    adapted.model.eval()
    return adapted


@pytest.mark.parametrize(
    ("plugin", "name", "settings", "parameters"),
    [
        ("lora", "lora", {"rank": 3}, 2 * sum(3 * (a + b) for a, b in SIDES)),
        ("lora", "lora", {"rank": 3, "use_dora": True}, 2 * sum(3 * (a + b) + b for a, b in SIDES)),
        ("lora", "lora", {"rank": 3, "init": "pissa"}, 2 * sum(3 * (a + b) for a, b in SIDES)),
        ("lora", "lora", {"rank": 2, "target_modules": ("c_attn",)}, 2 * 2 * (32 + 96)),
        ("adalora", "adalora", {"target_rank": 2, "init_rank": 4}, 2 * sum(4 * (a + b + 1) for a, b in SIDES)),
        ("ia3", "ia3", {}, 2 * (96 + 48)),
    ],
)
def test_a_method_trains_keeps_and_merges_transposed_layers(
    gpt2, context, tmp_path, plugin, name, settings, parameters
):
    record, settings = adapter(plugin, name, **settings)
    base, again = copy.deepcopy(gpt2.model), copy.deepcopy(gpt2)
    assert record.resolve("formula")(gpt2.model, settings) == parameters
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        adapted = record.resolve()(gpt2, settings, context)
    assert sum(p.numel() for p in adapted.trainable().values()) == parameters
    torch.testing.assert_close(adapted.model(IDS).logits, base(IDS).logits, rtol=1e-4, atol=1e-4)
    trained(adapted)
    expected = adapted.model(IDS).logits
    assert (expected - base(IDS).logits).abs().max() > 1e-2
    adapted.save(tmp_path)
    loaded = record.resolve()(again, settings, context)
    loaded.load(tmp_path)
    assert torch.equal(loaded.model.eval()(IDS).logits, expected)
    with adapted.disabled() as model:
        torch.testing.assert_close(model(IDS).logits, base(IDS).logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(adapted.merge()(IDS).logits, expected, rtol=1e-4, atol=1e-4)


def test_another_decomposition_of_transposed_weights_is_put_right(gpt2, context, tmp_path):
    record, exact = adapter("lora", "lora", rank=3, init="pissa")
    other = copy.deepcopy(gpt2)
    adapted = trained(record.resolve()(gpt2, exact, context))
    adapted.save(tmp_path)
    again = record.resolve()(other, replace(exact, pissa_niter=1), context)
    again.load(tmp_path)
    expected = adapted.model(IDS).logits
    torch.testing.assert_close(again.model.eval()(IDS).logits, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("plugin", "name", "settings", "method"),
    [
        ("loha", "loha", {}, "loha"),
        ("loha", "lokr", {}, "lokr"),
        ("lora", "lora", {"init": "olora"}, "lora with init = 'olora'"),
    ],
)
def test_a_method_that_cannot_is_refused(gpt2, context, plugin, name, settings, method):
    record, settings = adapter(plugin, name, **settings)
    with pytest.raises(RecipeError, match=f"{method} cannot adapt transformer.h.0.attn.c_attn: it is a Conv1D"):
        record.resolve()(gpt2, settings, context)


def test_a_rank_over_a_transposed_layers_size_is_refused(gpt2, context):
    record, settings = adapter("lora", "lora", rank=33)
    with pytest.raises(RecipeError, match=r"rank = 33 is over the size of transformer.h.0.attn.c_attn \(32 x 96\)"):
        record.resolve()(gpt2, settings, context)
