"""Each family, from a small config: what is trained, that it starts as the base, learns, and can be switched off."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from tunesmith import Context, ModelHandle
from tunesmith_bottleneck import HoulsbySettings, PfeifferSettings, adapter
from tunesmith_bottleneck.adapter import BottleneckAdapted

H, INNER, BLOCKS, VOCABULARY = 32, 48, 2, 96
DECODER = {
    "vocab_size": VOCABULARY,
    "hidden_size": H,
    "intermediate_size": INNER,
    "num_hidden_layers": BLOCKS,
    "num_attention_heads": 4,
    "initializer_range": 0.2,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
GROUPED = {**DECODER, "num_key_value_heads": 2, "head_dim": 16}  # heads are wider together than the hidden size

#: Family: config class, model class, options, and the parameters of its layer norms, counted by hand.
FAMILIES: dict[str, tuple[str, str, dict[str, Any], int]] = {
    "llama": ("LlamaConfig", "LlamaForCausalLM", GROUPED, (2 * BLOCKS + 1) * H),
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM", {**DECODER, "num_key_value_heads": 2}, (2 * BLOCKS + 1) * H),
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM", GROUPED, (2 * BLOCKS + 1) * H),  # not those of queries and keys
    "mistral": ("MistralConfig", "MistralForCausalLM", GROUPED, (2 * BLOCKS + 1) * H),
    "gemma": ("GemmaConfig", "GemmaForCausalLM", GROUPED, (2 * BLOCKS + 1) * H),
    "gemma2": ("Gemma2Config", "Gemma2ForCausalLM", GROUPED, (4 * BLOCKS + 1) * H),
    "phi3": ("Phi3Config", "Phi3ForCausalLM", {**DECODER, "num_key_value_heads": 2}, (2 * BLOCKS + 1) * H),
    "gpt2": (
        "GPT2Config",
        "GPT2LMHeadModel",
        {
            "vocab_size": VOCABULARY,
            "n_embd": H,
            "n_inner": INNER,
            "n_layer": BLOCKS,
            "n_head": 4,
            "initializer_range": 0.2,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 0,
        },
        (2 * BLOCKS + 1) * 2 * H,
    ),
    "opt": (
        "OPTConfig",
        "OPTForCausalLM",
        {**DECODER, "ffn_dim": INNER, "word_embed_proj_dim": H, "init_std": 0.2, "max_position_embeddings": 64},
        (2 * BLOCKS + 1) * 2 * H,
    ),
    "bert": ("BertConfig", "BertForMaskedLM", DECODER, (2 * BLOCKS + 1) * 2 * H),  # one of them behind the embeddings
    "roberta": ("RobertaConfig", "RobertaForMaskedLM", DECODER, (2 * BLOCKS + 1) * 2 * H),
}
DECODERS = [name for name in FAMILIES if name not in ("bert", "roberta")]


def build(name: str, model: str = "", **options: Any) -> ModelHandle:
    """A small model of a family, the same one in every call."""
    import transformers

    config_class, model_class, given, _ = FAMILIES[name]
    config = getattr(transformers, config_class)(**{**given, **options})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = getattr(transformers, model or model_class)(config).float().eval()
    return ModelHandle(made, None, name, f"digest of {name}")


def rows() -> torch.Tensor:
    """Token ids (2, 10)."""
    return torch.arange(3, 23).view(2, 10)


def outputs(model: Any) -> torch.Tensor:
    """Logits (2, 10, V) without dropout."""
    model.eval()
    with torch.no_grad():
        return model(input_ids=rows()).logits


def train(adapted: Any, steps: int = 4) -> list[float]:
    """Losses of some steps without dropout."""
    moved = [p for p in adapted.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(moved, lr=0.02, weight_decay=0.0)
    losses = []
    adapted.model.eval()
    for _ in range(steps):
        loss = adapted.model(input_ids=rows(), labels=rows()).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses


def apply(method: str, handle: ModelHandle, context: Context, **options: Any) -> BottleneckAdapted:
    if method == "houlsby":
        return adapter.houlsby(handle, HoulsbySettings(**options), context)
    return adapter.pfeiffer(handle, PfeifferSettings(**options), context)


every_family = pytest.mark.parametrize("family", sorted(FAMILIES))
both = pytest.mark.parametrize("method", ["houlsby", "pfeiffer"])


@every_family
@both
def test_parameters_are_those_of_the_definition(family: str, method: str, context: Context) -> None:
    handle = build(family)
    options: dict[str, Any] = {"bottleneck": 6}
    if method == "houlsby":
        expected = adapter.houlsby_parameters(handle.model, HoulsbySettings(**options))
        by_hand = 2 * BLOCKS * (2 * H * 6 + 6 + H) + FAMILIES[family][3]
    else:
        expected = adapter.pfeiffer_parameters(handle.model, PfeifferSettings(**options))
        by_hand = BLOCKS * (2 * H * 6 + 6 + H)
    assert expected == by_hand
    adapted = apply(method, handle, context, **options)
    assert sum(p.numel() for p in adapted.trainable().values()) == by_hand


@every_family
@both
def test_only_the_adapter_moves_and_the_loss_falls(family: str, method: str, context: Context) -> None:
    handle = build(family)
    base = {name: (p, p.detach().clone()) for name, p in handle.model.named_parameters()}
    plain = outputs(handle.model)
    adapted = apply(method, handle, context, bottleneck=8)
    assert torch.equal(outputs(adapted.model), plain)  # exactly the base before the first step
    start = {name: p.detach().clone() for name, p in adapted.trainable().items()}
    losses = train(adapted)
    assert losses[-1] < losses[0]
    assert all("tunesmith_bottleneck" in name for name in start)
    assert all(not torch.equal(p, start[name]) for name, p in adapted.trainable().items())
    assert all(torch.equal(p, then) and p.grad is None for p, then in base.values())


@every_family
@both
def test_disabled_is_the_base_to_the_bit(family: str, method: str, context: Context) -> None:
    handle = build(family)
    plain = outputs(handle.model)
    adapted = apply(method, handle, context, bottleneck=8)
    train(adapted, 2)
    tuned = outputs(adapted.model)
    with adapted.disabled() as model:
        assert torch.equal(outputs(model), plain)
    assert not torch.equal(tuned, plain)
    assert torch.equal(outputs(adapted.model), tuned)


@every_family
@both
def test_what_is_saved_comes_back_to_the_bit(family: str, method: str, context: Context, tmp_path: Path) -> None:
    adapted = apply(method, build(family), context, bottleneck=8)
    train(adapted, 2)
    adapted.save(tmp_path)
    again = apply(method, build(family), context.with_(seed=5), bottleneck=8)
    again.load(tmp_path)
    assert torch.equal(outputs(again.model), outputs(adapted.model))


@every_family
def test_a_deep_copy_stands_alone(family: str, context: Context) -> None:
    adapted = apply("houlsby", build(family), context, bottleneck=8)
    train(adapted, 2)
    tuned = outputs(adapted.model)
    copied = copy.deepcopy(adapted)
    assert torch.equal(outputs(copied.model), tuned)
    train(copied, 1)
    with copied.disabled():
        assert torch.equal(outputs(adapted.model), tuned)
    assert not torch.equal(outputs(copied.model), tuned)


@every_family
def test_activation_checkpointing_gives_the_same_gradients(family: str, context: Context) -> None:
    found = []
    for checkpointing in (False, True):
        adapted = apply("houlsby", build(family, use_cache=False), context, bottleneck=8, dropout=0.2)
        if checkpointing:
            adapted.model.gradient_checkpointing_enable({"use_reentrant": False})
        adapted.model.train()
        torch.manual_seed(3)
        adapted.model(input_ids=rows(), labels=rows()).loss.backward()
        found.append({name: p.grad for name, p in adapted.trainable().items()})
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


@pytest.mark.parametrize("family", DECODERS)
def test_generation_with_and_without_cache_agree(family: str, context: Context) -> None:
    adapted = apply("houlsby", build(family), context, bottleneck=8)
    train(adapted, 3)
    options = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None}
    cached, whole = (adapted.model.generate(rows(), use_cache=use, **options) for use in (True, False))
    with adapted.disabled() as model:
        plain = model.generate(rows(), use_cache=True, **options)
    assert torch.equal(cached, whole)
    assert not torch.equal(cached, plain)
