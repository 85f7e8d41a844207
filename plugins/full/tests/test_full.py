"""Exactly the named parameters move."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

import tunesmith_full
from tunesmith import RecipeError
from tunesmith_full import FullSettings, HeadSettings, LastLayersSettings, RegexSettings, adapters, check
from tunesmith_full.check import last_layers_fit, pattern_fits


def moved(handle, adapted):
    """Names of the parameters that a few steps change."""
    before = {name: p.detach().clone() for name, p in handle.model.named_parameters()}
    optimizer = torch.optim.AdamW(adapted.trainable().values(), lr=0.01)
    ids = torch.arange(3, 40).view(1, -1)
    for _ in range(2):
        adapted.model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return {name for name, p in handle.model.named_parameters() if not torch.equal(p, before[name])}


def test_the_plugin_passes_the_kit(check_plugin):
    check_plugin(tunesmith_full)


def test_full_moves_everything(tiny_handle, context):
    adapted = adapters.full(tiny_handle, FullSettings(), context)
    assert moved(tiny_handle, adapted) == {name for name, _ in tiny_handle.model.named_parameters()}


def test_head_moves_the_head(tiny_handle, context):
    assert moved(tiny_handle, adapters.head(tiny_handle, HeadSettings(), context)) == {"lm_head.weight"}


@pytest.mark.parametrize("head", [True, False])
def test_the_last_layers_move(tiny_handle, context, head):
    names = moved(tiny_handle, adapters.last_layers(tiny_handle, LastLayersSettings(layers=1, head=head), context))
    blocks = {name for name in names if name.startswith("model.layers.1.")}
    assert len(blocks) == 9
    assert names - blocks == ({"model.norm.weight", "lm_head.weight"} if head else set())


def test_a_pattern_moves_what_matches(tiny_handle, context):
    names = moved(tiny_handle, adapters.regex(tiny_handle, RegexSettings(pattern="norm"), context))
    assert names == {n for n, _ in tiny_handle.model.named_parameters() if "norm" in n}


def test_a_full_artifact_is_an_ordinary_model_folder(tiny_handle, context, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    adapted = adapters.full(tiny_handle, FullSettings(), context)
    moved(tiny_handle, adapted)
    adapted.save(tmp_path)
    ids = torch.tensor([[5, 6, 7]])
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    torch.testing.assert_close(loaded(ids).logits, tiny_handle.model(ids).logits, rtol=0, atol=0)
    assert len(AutoTokenizer.from_pretrained(tmp_path)) == 259


def test_tied_embeddings_come_back(context, tmp_path):
    from transformers import LlamaConfig, LlamaForCausalLM

    from tunesmith import ModelHandle
    from tunesmith.testing.tiny import tiny_tokenizer

    def tied():
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=259,
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            tie_word_embeddings=True,
        )
        return ModelHandle(LlamaForCausalLM(config), tiny_tokenizer(), "tied", "d")

    first, second = tied(), tied()
    adapted = adapters.full(first, FullSettings(), context)
    moved(first, adapted)
    adapted.save(tmp_path)
    adapters.full(second, FullSettings(), context).load(tmp_path)
    ids = torch.tensor([[5, 6, 7]])
    torch.testing.assert_close(first.model(ids).logits, second.model(ids).logits, rtol=0, atol=0)


def test_the_base_is_there_only_when_it_was_kept(tiny_handle, context):
    base = copy.deepcopy(tiny_handle.model)
    adapted = adapters.full(tiny_handle, FullSettings(keep_base=True), context)
    moved(tiny_handle, adapted)
    ids = torch.tensor([[5, 6, 7]])
    with adapted.disabled() as model:
        torch.testing.assert_close(model(ids).logits, base(ids).logits, rtol=0, atol=0)
    assert not torch.equal(adapted.model(ids).logits, base(ids).logits)
    plain = adapters.full(tiny_handle, FullSettings(), context)
    with pytest.raises(RecipeError, match="keep_base = true"), plain.disabled():
        pass


def test_what_does_not_fit_is_refused(tiny_handle, context):
    with pytest.raises(RecipeError, match="the model has 2 blocks"):
        adapters.last_layers(tiny_handle, LastLayersSettings(layers=3), context)
    with pytest.raises(RecipeError, match="no parameter matches"):
        adapters.regex(tiny_handle, RegexSettings(pattern="nothing"), context)
    with pytest.raises(RecipeError, match="not a regular expression"):
        check.pattern(RegexSettings(pattern="("), Path())
    tiny_handle.quantized = "nf4"
    with pytest.raises(RecipeError, match="quantized"):
        adapters.full(tiny_handle, FullSettings(), context)


@pytest.mark.parametrize(
    ("fits", "settings", "head", "said"),
    [
        (last_layers_fit, LastLayersSettings(head=False), "scalar", "leaves the model's new head untrained"),
        (last_layers_fit, LastLayersSettings(layers=3), "causal-lm", "layers = 3, but the model has 2 blocks"),
        (pattern_fits, RegexSettings(pattern="mlp"), "sequence-labels", "untrained: score.weight"),
    ],
)
def test_what_leaves_a_head_untrained_or_asks_for_more_blocks_the_plan_refuses(fits, settings, head, said):
    with pytest.raises(RecipeError, match=said) as error:
        fits(settings, {"model_type": "llama", "num_hidden_layers": 2}, head)
    assert error.value.fix
    assert error.value.setting


def test_what_trains_the_head_is_planned():
    config = {"model_type": "llama", "num_hidden_layers": 2}
    last_layers_fit(LastLayersSettings(layers=2, head=False), config, "causal-lm")
    pattern_fits(RegexSettings(pattern="mlp"), config, "causal-lm")
    pattern_fits(RegexSettings(pattern="mlp|score"), config, "scalar")
    pattern_fits(RegexSettings(pattern="mlp"), {"model_type": "unheard-of"}, "scalar")
