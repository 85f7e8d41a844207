"""What `torchao-int4` and `torchao-int8` make of weights: bits, errors, gradients, and what they refuse."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torchao.quantization import Int8WeightOnlyConfig, IntxWeightOnlyConfig, MappingType, PerGroup, quantize_

from tunesmith import Context, ModelHandle, RecipeError
from tunesmith_torchao import Int4Settings, Int8Settings
from tunesmith_torchao.bits import stored_bits
from tunesmith_torchao.layers import QuantizedLinear
from tunesmith_torchao.quantizer import int4, int8
from tunesmith_torchao.tensors import PackedInt4Tensor, int4_tensor, int8_tensor

Make = Callable[[torch.Tensor, int | None], torch.Tensor]


def normal(rows: int = 48, columns: int = 128, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(3)).to(dtype)


def error(weight: torch.Tensor, quantized: torch.Tensor) -> float:
    return float((quantized.dequantize() - weight).norm() / weight.norm())


# --- numbers ----------------------------------------------------------------------------------
def test_int4_is_what_torchao_makes_of_the_weights_in_a_packed_form() -> None:
    layer = nn.Linear(128, 48, bias=False)
    layer.weight = nn.Parameter(normal())
    config = IntxWeightOnlyConfig(
        weight_dtype=torch.int4, granularity=PerGroup(32), mapping_type=MappingType.ASYMMETRIC
    )
    quantize_(layer, config)
    ours = int4_tensor(normal(), 32)
    assert isinstance(ours, PackedInt4Tensor)
    assert ours.qdata.shape == (48, 64)
    assert torch.equal(ours.dequantize(), layer.weight.dequantize())


def test_int4_rounds_to_sixteen_steps_between_the_ends_of_a_group() -> None:
    weight = normal(4, 16)
    weight[0] = 0  # a group without a spread
    weight[1] = weight[1].abs() + 1  # one without a sign change: zero stays among its values
    for row, found in zip(weight, int4_tensor(weight, 16).dequantize(), strict=True):
        low, high = min(float(row.min()), 0.0), max(float(row.max()), 0.0)
        step = max((high - low) / 15, torch.finfo(torch.float32).eps)
        zero = round(-low / step)
        expected = [step * (min(max(round(float(w) / step) + zero, 0), 15) - zero) for w in row]
        assert torch.allclose(found, torch.tensor(expected), atol=1e-6)


def test_int8_is_torchao_s_own_tensor() -> None:
    layer = nn.Linear(128, 48, bias=False)
    layer.weight = nn.Parameter(normal())
    quantize_(layer, Int8WeightOnlyConfig(granularity=PerGroup(64), set_inductor_config=False))
    ours = int8_tensor(normal(), 64)
    assert type(ours) is type(layer.weight.data)
    assert torch.equal(ours.dequantize(), layer.weight.dequantize())


def test_the_error_falls_with_bits_and_with_smaller_groups() -> None:
    weight = normal()
    errors = [error(weight, made) for made in (
        int4_tensor(weight, 128), int4_tensor(weight, 32), int8_tensor(weight, None), int8_tensor(weight, 32)
    )]  # fmt: skip
    assert errors == sorted(errors, reverse=True)
    assert errors[0] < 0.12
    assert errors[2] < errors[1] / 10


@pytest.mark.parametrize(
    ("make", "group", "dtype", "bits"),
    [
        (int4_tensor, 64, torch.float32, 4 + (32 + 8) / 64),
        (int4_tensor, 64, torch.bfloat16, 4 + (16 + 8) / 64),
        (int4_tensor, 16, torch.float32, 4 + (32 + 8) / 16),
        (int8_tensor, None, torch.float32, 8 + (32 + 8) / 128),
        (int8_tensor, 32, torch.float32, 8 + (32 + 8) / 32),
    ],
)
def test_bits_are_counted_on_the_tensors(make: Make, group: int | None, dtype: torch.dtype, bits: float) -> None:
    made = make(normal(dtype=dtype), group)
    assert stored_bits(made) / made.numel() == bits
    assert made.dequantize().dtype == dtype


def test_quantizing_the_int4_values_again_changes_no_code() -> None:
    once = int4_tensor(normal(), 32)
    twice = int4_tensor(once.dequantize(), 32)
    assert torch.equal(twice.qdata, once.qdata)
    assert torch.allclose(twice.dequantize(), once.dequantize(), atol=1e-6)


# --- layers -----------------------------------------------------------------------------------
@pytest.mark.parametrize("make", [int4_tensor, int8_tensor])
def test_a_layer_computes_and_derives_as_a_dense_one_with_the_same_values(make: Make) -> None:
    dense = nn.Linear(128, 48)
    layer = QuantizedLinear.of(dense, lambda weight: make(weight, 32))
    dense.weight = nn.Parameter(layer.weight.dequantize())
    x = torch.randn(3, 5, 128, generator=torch.Generator().manual_seed(1))
    ours, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    (layer(ours) ** 2).sum().backward()
    (dense(theirs) ** 2).sum().backward()
    assert torch.allclose(layer(x), dense(x), atol=1e-5)
    assert ours.grad is not None
    assert theirs.grad is not None
    assert torch.allclose(ours.grad, theirs.grad, atol=1e-3)
    assert layer.bias.grad is not None
    assert layer.weight.grad is None


@pytest.mark.parametrize("make", [int4_tensor, int8_tensor])
def test_a_layer_keeps_no_dense_weight_for_the_backward_pass(make: Make) -> None:
    layer = QuantizedLinear.of(nn.Linear(128, 48, bias=False), lambda weight: make(weight, 32))
    kept: list[torch.Size] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.shape), lambda _: None):
        layer(torch.zeros(2, 128, requires_grad=True)).sum()
    assert torch.Size((48, 128)) not in kept


@pytest.mark.parametrize("make", [int4_tensor, int8_tensor])
def test_a_layer_can_be_copied_and_moved(make: Make) -> None:
    layer = QuantizedLinear.of(nn.Linear(128, 48), lambda weight: make(weight, 32))
    copied = copy.deepcopy(layer).to("cpu")
    assert type(copied.weight) is type(layer.weight)
    assert torch.equal(copied.weight.dequantize(), layer.weight.dequantize())


def test_a_product_outside_of_our_layer_is_right_too() -> None:
    weight = int4_tensor(normal(), 32)
    x = torch.ones(2, 128)
    assert torch.equal(nn.functional.linear(x, weight), x @ weight.dequantize().t())


# --- a model ----------------------------------------------------------------------------------
def test_the_body_is_quantized_and_the_rest_stays(tiny_handle: ModelHandle, context: Context) -> None:
    before = {name: p.clone() for name, p in tiny_handle.model.named_parameters()}
    handle = int4(Int4Settings(group_size=32, skip_modules=("*.layers.0.*", "down_proj")), context).after_load(
        tiny_handle
    )
    kinds = {name: type(module) for name, module in handle.model.named_modules() if isinstance(module, nn.Linear)}
    quantized = [name for name, kind in kinds.items() if kind is QuantizedLinear]
    assert len(quantized) == 6
    assert all(".layers.1." in name and "down_proj" not in name for name in quantized)
    for name, parameter in handle.model.named_parameters():
        assert isinstance(parameter.data, PackedInt4Tensor) or torch.equal(parameter, before[name])


def test_the_bits_are_told_and_kept_among_the_facts(tiny_handle: ModelHandle, context: Context) -> None:
    dense = sum(p.numel() for p in tiny_handle.model.parameters())
    buffers = sum(32 * buffer.numel() for buffer in tiny_handle.model.buffers())
    handle = int8(Int8Settings(group_size=32), context).after_load(tiny_handle)
    facts = context.facts["quantization"]
    linear = 2 * (2 * 32 * 32 + 2 * 32 * 16 + 3 * 32 * 64)
    bits = 9.25 * linear + 32 * (dense - linear) + buffers
    assert facts == {
        "quantizer": "torchao-int8",
        "bits_a_parameter": 8 + 40 / 32,
        "bits_a_parameter_of_the_model": pytest.approx(bits / dense),
        "bytes": pytest.approx(bits / 8),
        "parameters": dense,
        "quantized_parameters": linear,
        "quantized_layers": 14,
    }
    assert handle.notes[-1] == (
        f"torchao-int8: 9.250 bits a parameter in 14 quantized layers ({linear:,} parameters), {bits / dense:.3f} over "
        f"the whole model, {bits / 8e6:.1f} MB; heads and embeddings stay dense"
    )


def test_a_classifier_s_new_head_stays_dense(tiny_handle: ModelHandle, context: Context) -> None:
    from transformers import LlamaForSequenceClassification

    tiny_handle.model = LlamaForSequenceClassification(tiny_handle.model.config)
    int4(Int4Settings(group_size=32), context).after_load(tiny_handle)
    assert type(tiny_handle.model.score) is nn.Linear
    assert type(tiny_handle.model.model.layers[0].mlp.up_proj) is QuantizedLinear


# --- what is refused --------------------------------------------------------------------------
def refused(handle: ModelHandle, context: Context, settings: Int4Settings) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        int4(settings, context).after_load(handle)
    assert caught.value.fix
    return caught.value


def test_a_group_that_divides_no_layer_is_refused(tiny_handle: ModelHandle, context: Context) -> None:
    said = refused(tiny_handle, context, Int4Settings())
    assert said.what == "group_size = 64 does not divide the 32 inputs of model.layers.0.self_attn.q_proj"
    assert said.fix == 'Set group_size = 32, or add "q_proj" to skip_modules in [quantizer].'
    assert all(type(module) is not QuantizedLinear for module in tiny_handle.model.modules())


def test_a_model_without_linear_layers_is_refused(tiny_handle: ModelHandle, context: Context) -> None:
    tiny_handle.model = nn.Sequential(nn.Embedding(8, 8), nn.LayerNorm(8))
    assert "Sequential has no linear layers" in refused(tiny_handle, context, Int4Settings()).what


def test_a_base_that_is_quantized_already_is_refused(tiny_handle: ModelHandle, context: Context) -> None:
    handle = int8(Int8Settings(), context).after_load(tiny_handle)
    assert "is quantized already (model.layers.0" in refused(handle, context, Int4Settings(group_size=32)).what
    handle.quantized = "nf4"
    assert "is quantized already (nf4)" in refused(handle, context, Int4Settings(group_size=32)).what


def test_a_module_to_skip_that_is_not_there_is_refused(tiny_handle: ModelHandle, context: Context) -> None:
    said = refused(tiny_handle, context, Int4Settings(group_size=32, skip_modules=("q_prj",)))
    assert "'q_prj'" in said.what
    assert said.details == ("linear layers: down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj",)


def test_skipping_everything_is_refused(tiny_handle: ModelHandle, context: Context) -> None:
    assert "leaves no linear layer" in refused(tiny_handle, context, Int4Settings(skip_modules=("*",))).what
