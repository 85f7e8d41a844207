"""AdaLoRA is what it says: the budget falls, ranks differ between layers, the orthogonal term is PEFT's."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from peft import AdaLoraConfig, PeftModel, get_peft_model

import tunesmith_adalora
from tunesmith import DataError, RecipeError
from tunesmith_adalora import AdaloraSettings
from tunesmith_adalora.adapter import apply, parameters

IDS = torch.arange(3, 40).view(1, -1)
SMALL = AdaloraSettings(target_rank=2, init_rank=4)


def trained(handle, settings, context, steps=12):
    adapted = apply(handle, settings, context)
    adapted.begin(steps)
    optimizer = torch.optim.AdamW(adapted.trainable().values(), lr=0.02)
    for step in range(1, steps + 1):
        (adapted.model(input_ids=IDS, labels=IDS).loss + (adapted.extra_loss() or 0.0)).backward()
        optimizer.step()
        adapted.after_step(step, steps)
        optimizer.zero_grad()
    adapted.model.eval()
    return adapted


def test_the_plugin_passes_the_kit(check_plugin):
    check_plugin(tunesmith_adalora)


def test_the_budget_falls_and_the_ranks_differ(tiny_handle, context):
    adapted = trained(tiny_handle, SMALL, context)
    budget, ranks = context.facts["budget"], context.facts["ranks"]
    assert budget[0] == [0, 14 * 4]
    assert budget[-1] == [12, 14 * 2]
    sums = [total for _, total in budget]
    assert sums == sorted(sums, reverse=True)
    assert len(set(sums)) > 3
    assert len(ranks) == 14
    assert len(set(ranks.values())) > 1
    for name, rank in ranks.items():
        layer = adapted.model.base_model.model.get_submodule(name)
        update = layer.get_delta_weight("default").detach()
        assert torch.linalg.matrix_rank(update, atol=1e-6) <= rank


def test_the_schedule_waits_and_ends_as_told(tiny_handle, context):
    trained(tiny_handle, AdaloraSettings(target_rank=1, init_rank=4, tinit=3, tfinal=4), context)
    steps = [step for step, _ in context.facts["budget"]]
    assert min(steps[1:]) == 4
    assert steps[-2] <= 12 - 4
    assert context.facts["budget"][-1] == [12, 14]


def test_a_run_without_the_allocator_would_keep_every_rank(tiny_handle, context):
    adapted = apply(tiny_handle, SMALL, context)
    assert set(adapted.ranks().values()) == {4}


def test_the_orthogonal_term_is_pefts_own_and_is_added_once(tiny_handle, context):
    other = copy.deepcopy(tiny_handle.model)
    torch.manual_seed(1)
    adapted = apply(tiny_handle, SMALL, context)
    config = AdaLoraConfig(
        target_r=2,
        init_r=4,
        total_step=10,
        lora_alpha=32,
        orth_reg_weight=0.5,
        target_modules=sorted(adapted.ranks()),
        task_type="CAUSAL_LM",
    )
    torch.manual_seed(1)
    theirs = get_peft_model(other, config)
    with_term = theirs(input_ids=IDS, labels=IDS).loss
    ours = adapted.model(input_ids=IDS, labels=IDS).loss
    assert adapted.extra_loss() > 0.5
    torch.testing.assert_close(with_term - ours, adapted.extra_loss())
    torch.testing.assert_close(ours, tiny_handle.model(input_ids=IDS, labels=IDS).loss)


def test_no_term_at_weight_zero(tiny_handle, context):
    settings = AdaloraSettings(target_rank=1, init_rank=2, orth_reg_weight=0)
    assert apply(tiny_handle, settings, context).extra_loss() is None


def test_parameters_follow_the_formula(tiny_handle, context):
    expected = parameters(tiny_handle.model, SMALL)
    # hidden 32, keys and values 16, inner 64, two blocks
    shapes = [(32, 32), (32, 16), (32, 16), (32, 32), (32, 64), (32, 64), (64, 32)]
    assert expected == 2 * sum(4 * (a + b + 1) for a, b in shapes)
    assert sum(p.numel() for p in apply(tiny_handle, SMALL, context).trainable().values()) == expected


def test_the_artifact_holds_the_cut_ranks_only_and_peft_reads_it(tiny_handle, context, tmp_path):
    base, third = copy.deepcopy(tiny_handle.model), copy.deepcopy(tiny_handle)
    adapted = trained(tiny_handle, SMALL, context)
    adapted.save(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    kept = {name.removesuffix(".lora_E"): sum(rows) for name, rows in config["rank_pattern"].items()}
    assert kept == adapted.ranks()
    assert config["orth_reg_weight"] == 0.5
    expected = adapted.model(IDS).logits
    loaded = apply(third, SMALL, context)
    loaded.load(tmp_path)
    torch.testing.assert_close(loaded.model.eval()(IDS).logits, expected, rtol=0, atol=0)
    theirs = PeftModel.from_pretrained(base, tmp_path).eval()
    # PEFT multiplies without the triplets that were cut, which rounds otherwise
    torch.testing.assert_close(theirs(IDS).logits, expected, rtol=0, atol=1e-5)
    assert loaded.ranks() == adapted.ranks()


def test_a_continued_adapter_starts_its_schedule_over(tiny_handle, context, tmp_path):
    third = copy.deepcopy(tiny_handle)
    trained(tiny_handle, SMALL, context).save(tmp_path)
    again = apply(third, SMALL, context)
    again.load(tmp_path)
    before = again.model.eval()(IDS).logits
    again.begin(10)
    torch.testing.assert_close(again.model(IDS).logits, before, rtol=0, atol=0)
    assert set(again.ranks().values()) == {4}
    assert all(bool((p != 0).any(1).all()) for name, p in again.trainable().items() if "lora_A" in name)


def test_a_damaged_or_other_artifact_is_refused(tiny_handle, context, tmp_path):
    second, third = copy.deepcopy(tiny_handle), copy.deepcopy(tiny_handle)
    trained(tiny_handle, SMALL, context).save(tmp_path)
    with pytest.raises(DataError, match="tensors differ"):
        apply(second, AdaloraSettings(target_rank=2, init_rank=3), context).load(tmp_path)
    with pytest.raises(DataError, match="no adapter weights"):
        apply(third, SMALL, context).load(tmp_path / "nowhere")


def test_what_does_not_fit_is_refused(tiny_handle, context):
    with pytest.raises(RecipeError, match="no linear layer called 'c_attn'") as error:
        apply(tiny_handle, AdaloraSettings(target_modules=("c_attn",)), context)
    assert "q_proj" in str(error.value)
    with pytest.raises(RecipeError, match="init_rank = 17 is over the size of .*k_proj"):
        apply(tiny_handle, AdaloraSettings(init_rank=17), context)
    with pytest.raises(RecipeError, match="target_rank = 8 is not below init_rank = 8"):
        apply(tiny_handle, AdaloraSettings(target_rank=8, init_rank=8), context)
    adapted = apply(tiny_handle, SMALL, context)
    with pytest.raises(RecipeError, match="1 steps leave no time"):
        adapted.begin(1)
