"""LoRA on the fused weights of a mixture's experts, against the update worked out by hand."""

from __future__ import annotations

import copy
import hashlib
import json

import pytest
import torch
from transformers import AutoModelForCausalLM

from tunesmith import ModelHandle, RecipeError
from tunesmith_lora import LoraSettings
from tunesmith_lora.adapter import apply, parameters
from tunesmith_lora.check import told
from tunesmith_transformers.peft.experts import frozen_experts

IDS = torch.arange(3, 40).view(1, -1)
EXPERTS = ("experts.gate_up_proj", "experts.down_proj")
SETTINGS = LoraSettings(rank=2, alpha=4, target_modules=("q_proj",), target_parameters=EXPERTS)


@pytest.fixture
def mixture(experts_folder):
    model = AutoModelForCausalLM.from_pretrained(experts_folder).requires_grad_(False)
    return ModelHandle(model=model, tokenizer=None, source="tiny", digest="d")


def trained(adapted):
    optimizer = torch.optim.AdamW(adapted.trainable().values(), lr=0.05)
    for _ in range(3):
        adapted.model(input_ids=IDS, labels=IDS).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    adapted.model.eval()
    return adapted


def test_each_expert_has_an_update_of_its_own(mixture, context, tmp_path):
    base, other = copy.deepcopy(mixture.model), copy.deepcopy(mixture)
    expected = 2 * (2 * (32 + 32) + 4 * 2 * (32 + 96) + 4 * 2 * (48 + 32))  # layers x (q_proj, two fused weights)
    assert parameters(mixture.model, SETTINGS) == expected
    adapted = apply(mixture, SETTINGS, context)
    assert sum(p.numel() for p in adapted.trainable().values()) == expected
    torch.testing.assert_close(adapted.model.eval()(IDS).logits, base(IDS).logits)
    adapted = trained(adapted)
    logits = adapted.model(IDS).logits
    with adapted.disabled() as model:
        torch.testing.assert_close(model(IDS).logits, base(IDS).logits)
    adapted.save(tmp_path)
    again = apply(other, SETTINGS, context)
    again.load(tmp_path)
    torch.testing.assert_close(again.model.eval()(IDS).logits, logits)
    wrapped = again.model.base_model.model.model.layers[1].mlp.experts
    assert wrapped.parameter_name == "down_proj"
    a, b = (getattr(wrapped, name)["default"].weight.detach() for name in ("lora_A", "lora_B"))
    a, b = a.view(4, 2, 48), b.view(32, 2, 4)  # (E, r, in), (out, r, E)
    update = torch.stack([b[:, :, e] @ a[e] for e in range(4)]) * 4 / 2  # (E, out, in)
    merged = again.merge()
    before = base.model.layers[1].mlp.experts.down_proj
    torch.testing.assert_close(merged.model.layers[1].mlp.experts.down_proj, before + update)
    assert update.abs().max() > 0.01
    torch.testing.assert_close(merged(IDS).logits, logits, rtol=1e-4, atol=1e-4)
    assert set(merged.state_dict()) == set(base.state_dict())


def test_a_stopped_run_ends_in_the_same_bits_and_exports(house, experts_folder):
    adapter = 'adapter={use="lora",rank=2,target_parameters=["experts.gate_up_proj"]}'
    sets = (f"model.source={json.dumps(str(experts_folder))}", adapter)
    whole = house.run(*sets)
    part = house.stopped(2, *sets)
    house.resume(part)
    files = [run / "artifact" / "adapter_model.safetensors" for run in (whole.folder, part)]
    assert len({hashlib.sha256(path.read_bytes()).hexdigest() for path in files}) == 1


def test_what_stays_frozen_is_said(mixture, tiny_handle):
    (note,) = frozen_experts(mixture.model)
    assert "fused (experts.down_proj, experts.gate_up_proj)" in note
    assert frozen_experts(tiny_handle.model) == []


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"dropout": 0.1}, "excludes dropout"),
        ({"use_dora": True}, "excludes use_dora"),
        ({"init": "pissa"}, "excludes init"),
    ],
)
def test_the_plan_refuses_what_fused_weights_exclude(tmp_path, settings, said):
    with pytest.raises(RecipeError, match=said):
        told(LoraSettings(target_parameters=EXPERTS, **settings), tmp_path)


def test_a_name_or_a_rank_that_does_not_fit_is_refused(mixture, tiny_handle, context):
    with pytest.raises(RecipeError, match="no fused weights called 'experts.w1'") as caught:
        apply(mixture, LoraSettings(rank=2, target_parameters=("experts.w1",)), context)
    assert "experts.gate_up_proj" in str(caught.value.details)
    with pytest.raises(RecipeError, match="over the size of"):
        apply(mixture, LoraSettings(rank=33, target_modules=(), target_parameters=EXPERTS), context)
    with pytest.raises(RecipeError, match="no fused weights"):
        apply(tiny_handle, LoraSettings(rank=2, target_parameters=EXPERTS), context)
