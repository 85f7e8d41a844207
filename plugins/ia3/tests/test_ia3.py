"""IA3 is what it says: it multiplies keys, values and the inner feed-forward, and adds no matrix."""

from __future__ import annotations

import copy

import pytest
import torch
from peft import PeftModel

import tunesmith_ia3
from tunesmith import RecipeError
from tunesmith_ia3 import Ia3Settings
from tunesmith_ia3.adapter import apply, chosen, parameters

IDS = torch.arange(3, 40).view(1, -1)


def stirred(handle, context, settings=Ia3Settings()):
    """An adapter whose factors are not 1 any more."""
    adapted = apply(handle, settings, context)
    torch.manual_seed(3)
    for parameter in adapted.trainable().values():
        parameter.data += 0.5 * torch.rand_like(parameter)
    adapted.model.eval()
    return adapted


def test_the_plugin_passes_the_kit(check_plugin):
    check_plugin(tunesmith_ia3)


def test_it_multiplies_and_adds_no_matrix(tiny_handle, context):
    base = copy.deepcopy(tiny_handle.model)
    adapted = stirred(tiny_handle, context)
    assert all(min(p.shape) == 1 for p in adapted.trainable().values())
    wrapped = adapted.model.base_model.model.model.layers[0]
    plain = base.model.layers[0]
    x, inner = torch.randn(2, 32), torch.randn(2, 64)
    for name in ("k_proj", "v_proj"):
        factor = getattr(wrapped.self_attn, name).ia3_l["default"].flatten()
        expected = getattr(plain.self_attn, name)(x) * factor
        torch.testing.assert_close(getattr(wrapped.self_attn, name)(x), expected)
    factor = wrapped.mlp.down_proj.ia3_l["default"].flatten()
    torch.testing.assert_close(wrapped.mlp.down_proj(inner), plain.mlp.down_proj(inner * factor))
    assert torch.equal(wrapped.self_attn.q_proj(x), plain.self_attn.q_proj(x))
    weights = {name: tensor.shape for name, tensor in adapted.merge().state_dict().items()}
    assert weights == {name: tensor.shape for name, tensor in base.state_dict().items()}


def test_parameters_follow_the_formula(tiny_handle, context):
    # keys and values 16 each, inner 64, two blocks
    assert parameters(tiny_handle.model, Ia3Settings()) == 2 * (16 + 16 + 64)
    assert sum(p.numel() for p in apply(tiny_handle, Ia3Settings(), context).trainable().values()) == 192


def small(family):
    import transformers

    sizes = {"vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    inner = {"ffn_dim": 32, "word_embed_proj_dim": 16} if family == "OPT" else {"intermediate_size": 32}
    config = getattr(transformers, f"{family}Config")(**sizes, **inner, pad_token_id=0)
    model = {"Bert": "BertForMaskedLM", "GPTNeoX": "GPTNeoXForCausalLM"}.get(family, f"{family}ForCausalLM")
    return getattr(transformers, model)(config)


@pytest.mark.parametrize(
    ("family", "outputs", "inputs"),
    [
        ("Qwen2", {"k_proj", "v_proj"}, {"down_proj"}),
        ("OPT", {"k_proj", "v_proj"}, {"fc2"}),
        ("Bert", {"key", "value"}, {"layer.0.output.dense"}),
        ("GPTNeoX", {"query_key_value"}, {"dense_4h_to_h"}),
    ],
)
def test_layers_are_recognised_by_name(family, outputs, inputs):
    found = chosen(small(family), Ia3Settings())
    for layers, expected in zip(found, (outputs, inputs), strict=True):
        assert len(layers) == len(expected)
        assert all(any(name.endswith(f".{end}") for end in expected) for name in layers)


def test_peft_reads_the_artifact(tiny_handle, context, tmp_path):
    base = copy.deepcopy(tiny_handle.model)
    adapted = stirred(tiny_handle, context)
    adapted.save(tmp_path)
    loaded = PeftModel.from_pretrained(base, tmp_path).eval()
    torch.testing.assert_close(loaded(IDS).logits, adapted.model(IDS).logits, rtol=0, atol=0)


def test_what_does_not_fit_is_refused(tiny_handle, context):
    with pytest.raises(RecipeError, match="no linear layer called 'c_attn'") as error:
        apply(tiny_handle, Ia3Settings(target_modules=("c_attn",)), context)
    assert "q_proj" in str(error.value)
    with pytest.raises(RecipeError, match="not among the targets"):
        apply(tiny_handle, Ia3Settings(target_modules=("k_proj",), feedforward_modules=("down_proj",)), context)
    odd = torch.nn.Sequential(torch.nn.Linear(4, 4))
    with pytest.raises(RecipeError, match="keys and values cannot be recognised") as error:
        chosen(odd, Ia3Settings())
    assert "linear layers: 0" in str(error.value)


def test_a_run_keeps_the_adapter(house):
    run = house.run('adapter={use="ia3"}', "trainer.max_steps=2")
    assert (run.folder / "artifact" / "adapter_model.safetensors").is_file()
