"""Quantization-aware training: what it trains is what int4 makes of the weights."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn
from torchao.quantization.qat import QATConfig

from tunesmith import Adapted, Context, ModelHandle, RecipeError
from tunesmith.testing import trial
from tunesmith_torchao import Int4Settings, QatSettings
from tunesmith_torchao.check import qat as check
from tunesmith_torchao.layers import FakeQuantizedLinear
from tunesmith_torchao.qat import apply, parameters
from tunesmith_torchao.quantizer import int4
from tunesmith_torchao.tensors import int4_tensor
from tunesmith_transformers.loading.heads import check_head_trained, scores, with_head

GROUP = 16
SETTINGS = [QatSettings(group_size=GROUP), QatSettings(group_size=GROUP, rank=4)]
WHOLE, LOW = SETTINGS


def quantized(handle: ModelHandle, context: Context) -> ModelHandle:
    return int4(Int4Settings(group_size=GROUP), context).after_load(handle)


def trained(handle: ModelHandle, settings: QatSettings, context: Context, steps: int = 4) -> Adapted:
    adapted = apply(handle, settings, context)
    optimizer = torch.optim.AdamW(adapted.trainable().values(), lr=1e-2, weight_decay=0.0)
    for _ in range(steps):
        trial.total_loss(adapted, trial.make_batch()).backward()
        optimizer.step()
        optimizer.zero_grad()
    return adapted


@pytest.mark.parametrize("settings", SETTINGS, ids=["full", "low-rank"])
def test_before_training_it_is_the_quantized_base(
    settings: QatSettings, tiny_handle: ModelHandle, context: Context
) -> None:
    real = quantized(copy.deepcopy(tiny_handle), context)
    fake = apply(tiny_handle, settings, context)
    batch = trial.make_batch()
    assert torch.equal(trial.logits(fake.model, batch), trial.logits(real.model, batch))


@pytest.mark.parametrize("settings", SETTINGS, ids=["full", "low-rank"])
def test_after_training_the_really_quantized_model_computes_the_same(
    settings: QatSettings, tiny_handle: ModelHandle, context: Context
) -> None:
    adapted = trained(tiny_handle, settings, context)
    batch = trial.make_batch()
    expected = trial.logits(adapted.model, batch)
    merged = adapted.merge()
    assert torch.equal(trial.logits(merged, batch), expected)
    tiny_handle.model = merged
    again = trial.logits(quantized(tiny_handle, context).model, batch)
    assert trial.distance(again, expected) < 1e-5


def test_the_dense_weights_of_the_artifact_quantize_to_the_trained_model(
    tiny_handle: ModelHandle, context: Context, tmp_path: Path
) -> None:
    from transformers import AutoModelForCausalLM

    adapted = trained(tiny_handle, WHOLE, context)
    batch = trial.make_batch()
    expected = trial.logits(adapted.model, batch)
    adapted.save(tmp_path)
    handle = replace(tiny_handle, model=AutoModelForCausalLM.from_pretrained(tmp_path))
    assert trial.distance(trial.logits(handle.model, batch), expected) > 1e-3
    assert torch.equal(trial.logits(quantized(handle, context).model, batch), expected)


def test_training_for_int4_beats_rounding_afterwards(tiny_handle: ModelHandle, context: Context) -> None:
    batch = trial.make_batch()
    steps = 40
    plain = copy.deepcopy(tiny_handle)
    for parameter in plain.model.parameters():
        parameter.requires_grad_(True)
    optimizer = torch.optim.AdamW(plain.model.parameters(), lr=1e-2, weight_decay=0.0)
    for _ in range(steps):
        plain.model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    dense = trial.loss(plain.model, batch)
    afterwards = trial.loss(quantized(plain, context).model, batch)
    tiny_handle.model = trained(tiny_handle, WHOLE, context, steps).merge()
    aware = trial.loss(quantized(tiny_handle, context).model, batch)
    assert dense < aware < afterwards


def test_the_gradient_passes_the_rounding_unchanged(tiny_handle: ModelHandle) -> None:
    layer = nn.Linear(32, 8, bias=False)
    fake = FakeQuantizedLinear(layer, GROUP, None, 0.0, torch.Generator())
    x = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
    fake(x).sum().backward()
    assert layer.weight.grad is not None
    assert torch.allclose(layer.weight.grad, x.sum(0).expand(8, 32))


def test_it_rounds_about_as_torchao_s_own_fake_quantizer_does() -> None:
    from torchao.quantization import Int4WeightOnlyConfig, quantize_

    layer = nn.Linear(256, 64, bias=False)
    layer.weight = nn.Parameter(torch.randn(64, 256, generator=torch.Generator().manual_seed(2)))
    x = torch.eye(256)
    ours = FakeQuantizedLinear(layer, 32, None, 0.0, torch.Generator())(x)
    theirs = nn.Sequential(layer)
    quantize_(theirs, QATConfig(Int4WeightOnlyConfig(group_size=32), step="prepare"))
    off, off_by_theirs = (float((found - layer(x)).norm().detach()) for found in (ours, theirs(x)))
    # torchao's format for its kernels has zero points between the steps, ours on one of them
    assert off == pytest.approx(off_by_theirs, rel=0.05)


def test_the_low_rank_update_is_inside_the_rounding(tiny_handle: ModelHandle, context: Context) -> None:
    adapted = trained(tiny_handle, LOW, context)
    name, layer = next((n, m) for n, m in adapted.model.named_modules() if isinstance(m, FakeQuantizedLinear))
    assert layer.low_rank_a is not None
    assert layer.low_rank_b is not None
    update = layer.low_rank_b @ layer.low_rank_a * (2 * 4 / 4)
    assert int(torch.linalg.matrix_rank(update)) == 4
    x = torch.randn(3, layer.in_features)
    rounded = int4_tensor((layer.weight + update).detach(), GROUP).dequantize()
    assert torch.equal(layer(x), nn.functional.linear(x, rounded)), name


def test_the_number_of_trained_parameters_is_the_formula_s(tiny_handle: ModelHandle, context: Context) -> None:
    for settings in SETTINGS:
        handle = copy.deepcopy(tiny_handle)
        expected = parameters(handle.model, settings)
        assert sum(p.numel() for p in apply(handle, settings, context).trainable().values()) == expected


def test_the_start_depends_on_the_run_s_seed(tiny_handle: ModelHandle, context: Context) -> None:
    starts = []
    for seed in (1, 1, 2):
        adapted = apply(copy.deepcopy(tiny_handle), LOW, context.with_(seed=seed))
        starts.append(next(tensor for name, tensor in adapted.trainable().items() if "low_rank_a" in name))
    assert torch.equal(starts[0], starts[1])
    assert not torch.equal(starts[0], starts[2])


def test_without_a_rank_there_is_no_base_left(tiny_handle: ModelHandle, context: Context) -> None:
    with pytest.raises(RecipeError, match="keeps no copy") as caught, apply(tiny_handle, WHOLE, context).disabled():
        pass
    assert "Set rank" in str(caught.value.fix)


# --- under a new head ---------------------------------------------------------------------------
def scalar(handle: ModelHandle, seed: int = 3) -> ModelHandle:
    return with_head(copy.deepcopy(handle), "scalar", seed)


def test_a_new_head_is_trained_kept_and_merged(tiny_handle: ModelHandle, context: Context, tmp_path: Path) -> None:
    batch = {name: trial.make_batch()[name] for name in ("input_ids", "attention_mask")}
    base = scalar(tiny_handle)
    start = scores(base.model, batch)
    expected = parameters(base.model, LOW)
    adapted = apply(base, LOW, context)
    assert sum(p.numel() for p in adapted.trainable().values()) == expected
    check_head_trained(adapted)

    optimizer = torch.optim.AdamW(adapted.trainable().values(), lr=1e-2)
    for _ in range(3):
        scores(adapted.model, batch).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        trained = scores(adapted.model, batch)
        with adapted.disabled() as model:
            assert torch.equal(scores(model, batch), start)
        assert torch.equal(scores(adapted.model, batch), trained)
        adapted.save(tmp_path)
        again = apply(scalar(tiny_handle, seed=4), LOW, context.with_(seed=9))
        again.load(tmp_path)
        assert torch.equal(scores(again.model, batch), trained)
        assert torch.equal(scores(again.merge(), batch), trained)


# --- what is refused --------------------------------------------------------------------------
def test_a_quantized_base_is_refused(tiny_handle: ModelHandle, context: Context) -> None:
    handle = quantized(tiny_handle, context)
    handle.quantized = "torchao-int4"
    with pytest.raises(RecipeError, match=r"quantized already \(torchao-int4\), and \[adapter\]"):
        apply(handle, WHOLE, context)


def test_a_group_that_does_not_divide_is_refused(tiny_handle: ModelHandle, context: Context) -> None:
    with pytest.raises(RecipeError, match="group_size = 64 does not divide the 32 inputs"):
        apply(tiny_handle, QatSettings(), context)


def test_a_rank_over_a_layer_s_size_is_refused(tiny_handle: ModelHandle, context: Context) -> None:
    with pytest.raises(RecipeError, match="rank = 17 is over the size of .*k_proj"):
        apply(tiny_handle, QatSettings(group_size=32, rank=17), context)


def test_a_scale_without_a_rank_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="alpha is set, but rank is not"):
        check(QatSettings(alpha=8.0), tmp_path)
    assert "updates of rank 4" in check(QatSettings(alpha=8.0, rank=4), tmp_path)[0]


def test_the_plan_says_what_moves(tmp_path: Path) -> None:
    (said,) = check(WHOLE, tmp_path)
    assert said == "moves: every parameter, the layers seen in int4 in groups of 16; stays: nothing"
