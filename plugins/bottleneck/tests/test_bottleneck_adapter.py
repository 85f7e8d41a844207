"""Adapter layers are what they say: their function and their places; and what does not fit is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn

import tunesmith_bottleneck
from tunesmith import Context, DataError, ModelHandle, RecipeError, TunesmithError
from tunesmith_bottleneck import HoulsbySettings, PfeifferSettings, layers, places
from tunesmith_bottleneck.adapter import houlsby, houlsby_parameters, pfeiffer, pfeiffer_parameters

IDS = torch.arange(5, 25).view(2, 10)
SMALL = {"vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "pad_token_id": 0}


def made(config: Any, kind: str = "AutoModelForCausalLM") -> ModelHandle:
    torch.manual_seed(0)
    return ModelHandle(getattr(transformers, kind).from_config(config).float().eval(), None, "small", "d")


def stirred(adapted: Any) -> Any:
    """The adapter with weights as after training."""
    generator = torch.Generator().manual_seed(1)
    for parameter in adapted.trainable().values():
        parameter.data.normal_(std=0.3, generator=generator)
    return adapted


def test_the_plugin_passes_the_kit(check_plugin: Any) -> None:
    check_plugin(tunesmith_bottleneck)


# --- the function and the places ----------------------------------------------------------------
@pytest.mark.parametrize(("activation", "function"), [("relu", torch.relu), ("tanh", torch.tanh)])
def test_a_bottleneck_computes_its_definition(
    tiny_handle: ModelHandle, context: Context, activation: Any, function: Any
) -> None:
    settings = PfeifferSettings(bottleneck=5, activation=activation, scale=0.5)
    stirred(pfeiffer(tiny_handle, settings, context))
    layer = tiny_handle.model.model.layers[0].mlp.down_proj
    inside = layer.tunesmith_bottleneck
    x = torch.randn(3, 64)
    h = x @ layer.weight.T  # (3, 32)
    inner = function(h @ inside.down.weight.T + inside.down.bias)  # (3, 5)
    expected = h + 0.5 * (inner @ inside.up.weight.T + inside.up.bias)
    torch.testing.assert_close(layer(x), expected)


def test_a_trained_norm_is_a_norm_with_other_parameters() -> None:
    norm, other = nn.LayerNorm(8), nn.LayerNorm(8)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    gain = layers.NormGain(norm)
    gain.weight.data.normal_()
    gain.bias.data.normal_()
    other.weight.data = norm.weight.data * (1 + gain.weight.data)
    other.bias.data = norm.bias.data * (1 + gain.weight.data) + gain.bias.data
    gain.attach(norm)
    x = torch.randn(3, 8)
    torch.testing.assert_close(norm(x), other(x))


def test_the_down_projection_starts_within_two_deviations(tiny_handle: ModelHandle, context: Context) -> None:
    adapted = pfeiffer(tiny_handle, PfeifferSettings(bottleneck=32, init_std=0.02), context)
    for name, parameter in adapted.state().items():
        if name.endswith("down.weight"):
            assert 0.014 < float(parameter.std()) < 0.02
            assert float(parameter.abs().max()) <= 0.04
        else:
            assert not parameter.any()


def test_dropout_acts_in_training_only(tiny_handle: ModelHandle, context: Context) -> None:
    model = stirred(pfeiffer(tiny_handle, PfeifferSettings(bottleneck=8, dropout=0.5), context)).model
    with torch.no_grad():
        assert torch.equal(model.eval()(IDS).logits, model(IDS).logits)
        assert not torch.equal(model.train()(IDS).logits, model(IDS).logits)


@pytest.mark.parametrize(
    ("config", "kind", "attention", "feed_forward"),
    [
        (transformers.LlamaConfig(**SMALL), "AutoModelForCausalLM", "self_attn.o_proj", "mlp.down_proj"),
        (transformers.Phi3Config(**SMALL), "AutoModelForCausalLM", "self_attn.o_proj", "mlp.down_proj"),
        (
            transformers.GPT2Config(vocab_size=96, n_embd=32, n_layer=2, n_head=4),
            "AutoModel",
            "attn.c_proj",
            "mlp.c_proj",
        ),
        (transformers.OPTConfig(**SMALL, ffn_dim=32), "AutoModelForCausalLM", "self_attn.out_proj", "fc2"),
        (transformers.GPTNeoXConfig(**SMALL), "AutoModelForCausalLM", "attention.dense", "mlp.dense_4h_to_h"),
        (transformers.BertConfig(**SMALL), "AutoModel", "attention.output.dense", "output.dense"),
        (transformers.RobertaConfig(**SMALL), "AutoModelForMaskedLM", "attention.output.dense", "output.dense"),
        (
            transformers.DistilBertConfig(vocab_size=96, dim=32, hidden_dim=48, n_layers=2, n_heads=4),
            "AutoModel",
            "attention.out_lin",
            "ffn.lin2",
        ),
        (transformers.ModernBertConfig(**SMALL), "AutoModel", "attn.Wo", "mlp.Wo"),
        (transformers.XmodConfig(**SMALL), "AutoModel", "attention.output.dense", "output.dense"),
        (
            transformers.T5Config(vocab_size=96, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4),
            "AutoModelForSeq2SeqLM",
            "SelfAttention.o",
            "DenseReluDense.wo",
        ),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "model_type") else "",
)
def test_the_places_are_the_output_projections(config: Any, kind: str, attention: str, feed_forward: str) -> None:
    found = places.find_places(made(config, kind).model)
    blocks = 4 if config.is_encoder_decoder else 2
    assert len(found) == 2 * blocks
    for place in found:
        assert place.name.endswith(f".{attention if place.part == 'attention' else feed_forward}")
        assert place.width == 32
        assert "EncDecAttention" not in place.name


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention = nn.ModuleDict({"qkv": nn.Linear(width, 3 * width), "merge": nn.Linear(width, width)})
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.Linear(4 * width, width))


class Funnel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Block(16), Block(8)])


def test_the_hidden_size_is_read_at_each_place() -> None:
    assert [(place.name, place.width) for place in places.find_places(Funnel())] == [
        ("blocks.0.attention.merge", 16),
        ("blocks.0.mlp.1", 16),
        ("blocks.1.attention.merge", 8),
        ("blocks.1.mlp.1", 8),
    ]
    settings = PfeifferSettings(reduction_factor=4)
    assert pfeiffer_parameters(Funnel(), settings) == (2 * 16 * 4 + 4 + 16) + (2 * 8 * 2 + 2 + 8)


# --- bases and heads ----------------------------------------------------------------------------
def test_over_a_base_in_16_bits_the_adapter_is_float32(tiny_handle: ModelHandle, context: Context) -> None:
    model = tiny_handle.model.bfloat16()
    plain = model(IDS).logits
    adapted = houlsby(tiny_handle, HoulsbySettings(bottleneck=4), context)
    assert torch.equal(model(IDS).logits, plain)
    assert {p.dtype for p in adapted.trainable().values()} == {torch.float32}
    stirred(adapted)
    assert model(IDS).logits.dtype == torch.bfloat16
    with adapted.disabled():
        assert torch.equal(model(IDS).logits, plain)


@pytest.mark.parametrize("config", [transformers.BertConfig(**SMALL), transformers.LlamaConfig(**SMALL)])
def test_a_classification_head_is_trained_and_kept(config: Any, context: Context, tmp_path: Path) -> None:
    handle = made(config, "AutoModelForSequenceClassification")
    plain = handle.model(IDS[:1]).logits
    head = {"classifier", "score"} & {name for name, _ in handle.model.named_children()}
    settings = HoulsbySettings(bottleneck=4)
    expected = houlsby_parameters(handle.model, settings)
    adapted = houlsby(handle, settings, context)
    assert head & {name.partition(".")[0] for name in adapted.trainable()}
    assert sum(p.numel() for p in adapted.trainable().values()) == expected
    tuned = stirred(adapted).model(IDS[:1]).logits
    with adapted.disabled() as model:
        assert torch.equal(model(IDS[:1]).logits, plain)
    adapted.save(tmp_path)
    again = houlsby(made(config, "AutoModelForSequenceClassification"), settings, context)
    again.load(tmp_path)
    assert torch.equal(again.model(IDS[:1]).logits, tuned)


# --- refused ------------------------------------------------------------------------------------
def test_merging_is_refused_with_the_reason(tiny_handle: ModelHandle, context: Context) -> None:
    with pytest.raises(TunesmithError, match="pfeiffer cannot be merged: its bottlenecks are not linear"):
        pfeiffer(tiny_handle, PfeifferSettings(), context).merge()


def test_a_bottleneck_over_the_hidden_size_is_refused(tiny_handle: ModelHandle, context: Context) -> None:
    with pytest.raises(RecipeError, match="bottleneck = 33 is over the hidden size .* 32 units"):
        houlsby(tiny_handle, HoulsbySettings(bottleneck=33), context)
    with pytest.raises(RecipeError, match="reduction_factor = 64 leaves nothing of .*down_proj's 32 units"):
        pfeiffer(tiny_handle, PfeifferSettings(reduction_factor=64), context)


def test_a_second_adapter_in_one_model_is_refused(tiny_handle: ModelHandle, context: Context) -> None:
    houlsby(tiny_handle, HoulsbySettings(), context)
    with pytest.raises(RecipeError, match="holds bottlenecks already"):
        pfeiffer(tiny_handle, PfeifferSettings(), context)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (transformers.MixtralConfig(**SMALL, intermediate_size=32, num_key_value_heads=2), "mixture of experts"),
        (transformers.MambaConfig(vocab_size=96, hidden_size=32, num_hidden_layers=2), "no list of blocks"),
    ],
    ids=["mixtral", "mamba"],
)
def test_a_model_without_certain_places_is_refused(config: Any, message: str, context: Context) -> None:
    handle = made(config)
    with pytest.raises(RecipeError, match=f"no place for bottlenecks in .*{message}") as error:
        houlsby(handle, HoulsbySettings(), context)
    assert "looked for: in each block" in str(error.value)


def test_torchs_own_attention_is_refused_with_what_is_there() -> None:
    with pytest.raises(RecipeError, match="no place for bottlenecks in TransformerEncoder"):
        places.find_places(nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2), 2, enable_nested_tensor=False))


@pytest.mark.parametrize(
    ("settings", "differing"),
    [
        (PfeifferSettings(bottleneck=4), "places"),
        (PfeifferSettings(bottleneck=8, scale=2.0), "scale"),
        (PfeifferSettings(bottleneck=8, activation="gelu"), "activation"),
        (PfeifferSettings(bottleneck=8, layer_norms=True), "layer_norms"),
    ],
)
def test_an_adapter_of_other_settings_is_refused(
    tiny_handle: ModelHandle, context: Context, tmp_path: Path, settings: PfeifferSettings, differing: str
) -> None:
    pfeiffer(tiny_handle, settings, context).save(tmp_path)
    other = pfeiffer(made(tiny_handle.model.config), PfeifferSettings(bottleneck=8), context)
    with pytest.raises(DataError, match=f"does not fit: {differing} differ"):
        other.load(tmp_path)


@pytest.mark.parametrize("text", [None, "{", "[]", '{"method": "lora"}'])
def test_a_folder_without_this_adapter_is_refused(
    tiny_handle: ModelHandle, context: Context, tmp_path: Path, text: str | None
) -> None:
    adapted = pfeiffer(tiny_handle, PfeifferSettings(), context)
    adapted.save(tmp_path)
    path = tmp_path / "bottleneck_config.json"
    assert json.loads(path.read_text())["base"] == "tiny:0"
    path.unlink()
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match="cannot be read|does not fit"):
        adapted.load(tmp_path)


def test_missing_weights_are_refused(tiny_handle: ModelHandle, context: Context, tmp_path: Path) -> None:
    adapted = pfeiffer(tiny_handle, PfeifferSettings(), context)
    adapted.save(tmp_path)
    (tmp_path / "adapter.safetensors").unlink()
    with pytest.raises(DataError, match="no adapter weights"):
        adapted.load(tmp_path)
