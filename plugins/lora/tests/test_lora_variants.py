"""Starts from the base weights, two learning rates, patterns and modules that are trained in full."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from peft import PeftModel

from tunesmith import DataError, RecipeError
from tunesmith_lora import LoraSettings
from tunesmith_lora.adapter import apply, parameters

IDS = torch.arange(3, 40).view(1, -1)
DOWN = "model.layers.1.mlp.down_proj"


def trained(adapted, steps=3):
    optimizer = torch.optim.AdamW(adapted.trainable().values(), lr=0.02)
    for _ in range(steps):
        adapted.model(input_ids=IDS, labels=IDS).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    adapted.model.eval()
    return adapted


def layer_of(adapted, name=DOWN):
    return adapted.model.base_model.model.get_submodule(name)


RESIDUAL = [
    LoraSettings(rank=4, init="pissa"),
    LoraSettings(rank=4, init="pissa", pissa_niter=8, use_rslora=True, rank_pattern={"down_proj": 2}),
    LoraSettings(rank=4, init="olora", alpha_pattern={"down_proj": 8}),
]


def test_pissa_starts_with_the_main_part_of_the_weights(tiny_handle, context):
    weight = tiny_handle.model.get_submodule(DOWN).weight.detach().clone()
    adapted = apply(tiny_handle, LoraSettings(rank=4, init="pissa"), context)
    values = torch.linalg.svdvals(weight)
    layer = layer_of(adapted)
    torch.testing.assert_close(torch.linalg.svdvals(layer.get_delta_weight("default"))[:4], values[:4])
    torch.testing.assert_close(torch.linalg.svdvals(layer.get_base_layer().weight)[: len(values) - 4], values[4:])


@pytest.mark.parametrize("settings", RESIDUAL)
def test_at_step_0_base_and_adapter_are_the_original(tiny_handle, context, settings):
    original = copy.deepcopy(tiny_handle.model)
    adapted = apply(tiny_handle, settings, context)
    torch.testing.assert_close(adapted.model(IDS).logits, original(IDS).logits, rtol=1e-4, atol=1e-4)
    assert not torch.equal(layer_of(adapted).get_base_layer().weight, original.get_submodule(DOWN).weight)


@pytest.mark.parametrize("settings", RESIDUAL)
def test_the_artifact_is_a_plain_lora_on_the_untouched_base(tiny_handle, context, tmp_path, settings):
    base, other = copy.deepcopy(tiny_handle.model), copy.deepcopy(tiny_handle)
    adapted = trained(apply(tiny_handle, settings, context))
    adapted.save(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["r"], config["init_lora_weights"]) == (8, True)
    expected = adapted.model(IDS).logits
    plain = PeftModel.from_pretrained(base, tmp_path).eval()
    torch.testing.assert_close(plain(IDS).logits, expected, rtol=1e-4, atol=1e-4)
    torch.manual_seed(99)
    again = apply(other, settings, context)
    again.load(tmp_path)
    torch.testing.assert_close(again.model.eval()(IDS).logits, expected, rtol=0, atol=0)


def test_another_decomposition_of_the_same_base_is_put_right(tiny_handle, context, tmp_path):
    other = copy.deepcopy(tiny_handle)
    adapted = trained(apply(tiny_handle, LoraSettings(rank=4, init="pissa"), context))
    adapted.save(tmp_path)
    again = apply(other, LoraSettings(rank=4, init="olora"), context)  # as if this machine decomposed otherwise
    again.load(tmp_path)
    expected = adapted.model(IDS).logits
    torch.testing.assert_close(again.model.eval()(IDS).logits, expected, rtol=1e-4, atol=1e-4)


def test_an_adapter_of_another_start_is_refused(tiny_handle, context, tmp_path):
    other = copy.deepcopy(tiny_handle)
    apply(tiny_handle, LoraSettings(rank=4), context).save(tmp_path)
    with pytest.raises(DataError, match="tensors differ in name or rank"):
        apply(other, LoraSettings(rank=4, init="pissa"), context).load(tmp_path)


def test_lora_plus_gives_b_the_larger_rate(house, monkeypatch):
    from tunesmith_transformers.training.durable import Durable

    seen = {}
    create = Durable.create_optimizer

    def watched(self, model=None):
        optimizer = create(self, model)
        names = {id(p): name for name, p in self.adapted.trainable().items()}
        seen.update({names[id(p)]: group["lr"] for group in optimizer.param_groups for p in group["params"]})
        assert set(names.values()) == set(seen)
        return optimizer

    monkeypatch.setattr(Durable, "create_optimizer", watched)
    house.run('adapter={use="lora",rank=2,lora_plus_ratio=16}', "trainer.max_steps=2")
    assert {rate for name, rate in seen.items() if "lora_A" in name} == {0.01}
    assert {rate for name, rate in seen.items() if "lora_B" in name} == {0.16}


def test_two_rates_resume_to_the_same_bits(house):
    sets = ('adapter={use="lora",rank=2,lora_plus_ratio=4,init="pissa"}', "trainer.max_steps=4")
    whole, part = house.run(*sets), house.stopped(2, *sets)
    house.resume(part)
    files = [run / "artifact" / "adapter_model.safetensors" for run in (whole.folder, part)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_patterns_give_layers_their_own_rank_and_scale(tiny_handle, context):
    settings = LoraSettings(
        rank=4, alpha=8, rank_pattern={"*.layers.0.*": 2, "k_proj": 3}, alpha_pattern={"down_proj": 12}
    )
    expected = parameters(tiny_handle.model, settings)
    adapted = apply(tiny_handle, settings, context)
    ranks = {
        name: layer_of(adapted, f"model.layers.{name}").r["default"] for name in ("0.mlp.up_proj", "1.mlp.up_proj")
    }
    assert ranks == {"0.mlp.up_proj": 2, "1.mlp.up_proj": 4}
    assert layer_of(adapted, "model.layers.0.self_attn.k_proj").r["default"] == 3
    assert layer_of(adapted).scaling["default"] == 12 / 4
    assert layer_of(adapted, "model.layers.0.mlp.down_proj").scaling["default"] == 12 / 2
    assert sum(p.numel() for p in adapted.trainable().values()) == expected


def test_modules_to_save_are_trained_and_kept(tiny_handle, context, tmp_path):
    base, other = copy.deepcopy(tiny_handle.model), copy.deepcopy(tiny_handle)
    settings = LoraSettings(rank=2, modules_to_save=("norm", "lm_head"))
    adapted = trained(apply(tiny_handle, settings, context))
    adapted.save(tmp_path)
    again = apply(other, settings, context)
    again.load(tmp_path)
    expected = adapted.model(IDS).logits
    torch.testing.assert_close(again.model.eval()(IDS).logits, expected, rtol=0, atol=0)
    merged = again.merge()
    assert not torch.equal(merged.model.norm.weight, base.model.norm.weight)
    assert not torch.equal(merged.lm_head.weight, base.lm_head.weight)
    assert torch.equal(merged.model.layers[0].input_layernorm.weight, base.model.layers[0].input_layernorm.weight)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (LoraSettings(rank_pattern={"k_proj": 17}), "rank = 17 is over the size of .*k_proj"),
        (LoraSettings(target_modules=("q_proj",), rank_pattern={"v_proj": 2}), "not among the adapted layers"),
        (LoraSettings(alpha_pattern={"c_attn": 2}), "no linear layer called 'c_attn'"),
        (LoraSettings(modules_to_save=("pooler",)), "no module called 'pooler'"),
        (LoraSettings(init="pissa", use_dora=True), "DoRA would then miss"),
        (LoraSettings(pissa_niter=4), "init is not pissa"),
    ],
)
def test_what_does_not_fit_is_refused(tiny_handle, context, settings, message):
    with pytest.raises(RecipeError, match=message):
        apply(tiny_handle, settings, context)


def test_a_start_from_quantized_weights_is_refused(tiny_handle, context):
    tiny_handle.quantized = "nf4"
    with pytest.raises(RecipeError, match="needs dense weights, and the base is quantized \\(nf4\\)"):
        apply(tiny_handle, LoraSettings(init="pissa"), context)
