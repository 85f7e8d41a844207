"""What the quantizers make of weights: bits, errors, types, and what is refused."""

from __future__ import annotations

import gc
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from bitsandbytes import functional as bnb
from bitsandbytes.nn import Linear4bit, Linear8bitLt, Params4bit
from torch import nn

from tunesmith import Context, Labels, MissingError, ModelHandle, RecipeError
from tunesmith_qlora import FourBitSettings, Int8Settings, Nf4Settings, foresee, quantizers, unpacking
from tunesmith_qlora.size import measured
from tunesmith_transformers.sources.factories import directory
from tunesmith_transformers.training.settings import ModelSettings

MAPS = Path("/proc/self/maps")


def load(folder, quantizer, settings, context, head="causal-lm"):
    quantization = quantizer(settings, context)
    source = ModelSettings(source=str(folder))
    return quantization.after_load(directory(source, context, head, quantization.load_options))


@pytest.fixture
def here(tmp_path):
    return Context(device="cpu", cache=tmp_path)


# --- bits and errors --------------------------------------------------------------------------
def four_bit(double: bool) -> nn.Module:
    weight = torch.zeros(2048, 1024)
    layer = Linear4bit(1024, 2048, bias=False, compress_statistics=double, quant_type="nf4")
    layer.weight = Params4bit(weight, requires_grad=False, compress_statistics=double, quant_type="nf4").to("cpu")
    return nn.Sequential(layer)


def test_four_bits_and_a_scale_for_each_block_of_64():
    assert measured(four_bit(double=False))["bits_a_parameter"] == pytest.approx(4 + 32 / 64, abs=0.001)


@pytest.mark.parametrize(("unpack", "settings"), [(unpacking.nf4, Nf4Settings()), (unpacking.fp4, FourBitSettings())])
def test_what_is_timed_unpacks_a_weight_of_the_shape_that_was_asked(unpack, settings):
    torch.manual_seed(0)
    weight = torch.randn(96, 64)
    torch.manual_seed(0)
    found = unpack(settings, (96, 64), "cpu")()
    assert (found.shape, found.dtype) == ((96, 64), torch.float32)
    assert 0.05 < (found - weight).norm() / weight.norm() < 0.2


def test_double_quantization_holds_the_scales_in_8_bits():
    # 4 bits, a scale of 8 bits a block, a float32 for 256 scales, and 1,092 bytes of tables a layer
    expected = 4 + 8 / 64 + 32 / (64 * 256) + 8 * 1092 / (2048 * 1024)
    assert measured(four_bit(double=True))["bits_a_parameter"] == pytest.approx(expected, abs=1e-6)
    assert expected == pytest.approx(4.127, abs=0.005)


def test_int8_has_a_scale_a_row():
    layer = Linear8bitLt(1024, 256, bias=False, has_fp16_weights=False)
    layer.load_state_dict({"weight": torch.randn(256, 1024)})
    assert measured(nn.Sequential(layer.to("cpu")))["bits_a_parameter"] == pytest.approx(8 + 32 / 1024, abs=1e-6)


def int4(weight: torch.Tensor) -> torch.Tensor:
    """Plain symmetric int4: the largest value of each row (rows, n) is 7."""
    scale = weight.abs().amax(dim=1, keepdim=True) / 7
    return (weight / scale).round().clamp(-7, 7) * scale


def test_error_on_normal_weights_is_smallest_with_nf4():
    weight = torch.randn(256, 1024, generator=torch.Generator().manual_seed(0))
    errors = {}
    for kind in ("nf4", "fp4"):
        packed, state = bnb.quantize_4bit(weight, quant_type=kind, blocksize=64)
        errors[kind] = (bnb.dequantize_4bit(packed, state) - weight).pow(2).mean()
    plain = (int4(weight) - weight).pow(2).mean()
    blocks = (int4(weight.view(-1, 64)) - weight.view(-1, 64)).pow(2).mean()
    assert errors["nf4"] < errors["fp4"] < plain
    # with a scale for each 64 weights, which is what makes nf4 and fp4 as good as they are, int4 is between them
    assert errors["nf4"] < blocks < errors["fp4"]


def test_levels_of_nf4_are_quantiles_of_the_normal_distribution():
    """Against QLoRA's equation 4: the mean of neighbouring quantiles, scaled to 1, with an exact zero."""
    normal = torch.distributions.Normal(0.0, 1.0)
    outermost = 0.9677083  # of the reference implementation
    positive = normal.icdf(torch.linspace(outermost, 0.5, 9)[:-1])
    negative = -normal.icdf(torch.linspace(outermost, 0.5, 8)[:-1])
    levels = torch.cat([positive, torch.zeros(1), negative]).sort().values
    assert torch.allclose(bnb.get_4bit_type("nf4", device="cpu"), levels / levels.max(), atol=1e-3)


# --- loading ----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("quantizer", "settings", "layer"),
    [
        (quantizers.nf4, Nf4Settings(), Linear4bit),
        (quantizers.fp4, FourBitSettings(), Linear4bit),
        (quantizers.int8, Int8Settings(), Linear8bitLt),
    ],
)
def test_linear_layers_are_quantized_and_the_base_keeps_its_digest(tiny_folder, here, quantizer, settings, layer):
    dense = directory(ModelSettings(source=str(tiny_folder)), here, "causal-lm", {})
    handle = load(tiny_folder, quantizer, settings, here)
    linear = {name for name, module in dense.model.named_modules() if type(module) is nn.Linear and name != "lm_head"}
    assert {name for name, module in handle.model.named_modules() if isinstance(module, layer)} == linear
    assert type(handle.model.lm_head) is nn.Linear
    assert handle.digest == dense.digest
    facts = here.facts["quantization"]
    assert facts["quantized_layers"] == len(linear) == 14
    assert facts["parameters"] == sum(p.numel() for p in dense.model.parameters())
    assert any(f"{facts['bits_a_parameter']:.3f} bits a parameter" in note for note in handle.notes)
    assert any("float32 on cpu" in note for note in handle.notes)


@pytest.mark.skipif(not MAPS.exists(), reason="the system does not tell which files are mapped")
@pytest.mark.parametrize(
    ("quantizer", "settings"), [(quantizers.nf4, Nf4Settings()), (quantizers.int8, Int8Settings())]
)
def test_the_file_of_the_dense_weights_is_not_kept_in_memory(tiny_folder, here, tmp_path, quantizer, settings):
    """A tensor that still stands in the mapped file would keep all of it, the dense layers too."""
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "own"))
    dense = directory(ModelSettings(source=str(folder)), here, "causal-lm", {})
    assert str(folder) in MAPS.read_text()  # what is not quantized is read where it stands
    del dense
    gc.collect()
    handle = load(folder, quantizer, settings, here)
    gc.collect()
    assert str(folder) not in MAPS.read_text()
    assert handle.model.get_input_embeddings().weight.isfinite().all()


def test_layers_are_skipped_by_name_and_the_head_with_them(tiny_folder, here):
    handle = load(tiny_folder, quantizers.nf4, Nf4Settings(skip_modules=("q_proj", "down_proj")), here)
    assert type(handle.model.model.layers[0].self_attn.q_proj) is nn.Linear
    assert type(handle.model.lm_head) is nn.Linear
    assert here.facts["quantization"]["quantized_layers"] == 10


@pytest.mark.parametrize("head", ["token-labels", "sequence-labels", "scalar"])  # the first has a bias
def test_a_new_head_is_not_quantized(tiny_folder, here, head):
    context = replace(here, labels=Labels(("a", "b", "c")) if head != "scalar" else None)
    handle = load(tiny_folder, quantizers.nf4, Nf4Settings(), context, head)
    assert type(handle.model.score) is nn.Linear
    assert here.facts["quantization"]["quantized_layers"] == 14


def test_evaluating_first_leaves_the_weights_and_the_gradients_as_they_are(tiny_folder, here):
    handle = load(tiny_folder, quantizers.nf4, Nf4Settings(double_quant=False), here)
    layer = handle.model.model.layers[0].mlp.gate_proj
    before = layer.weight.detach().clone()
    with torch.no_grad():
        handle.model.eval()(input_ids=torch.arange(8)[None])
    assert torch.equal(layer.weight, before)
    assert layer.weight.quant_state.absmax.dtype == torch.float32
    inputs = torch.randn(3, 32, requires_grad=True)
    layer(inputs).sum().backward()
    expected = bnb.dequantize_4bit(layer.weight.data, layer.weight.quant_state).sum(dim=0)
    assert torch.allclose(inputs.grad[0], expected, atol=1e-5)


def test_int8_is_quiet_about_its_products(tiny_folder, here, caplog):
    handle = load(tiny_folder, quantizers.int8, Int8Settings(threshold=0.0), here)
    with caplog.at_level(logging.WARNING), torch.no_grad():
        handle.model(input_ids=torch.arange(8)[None])
    assert "inputs will be cast" not in caplog.text
    assert any("pass through float16" in note for note in handle.notes)


# --- what is refused --------------------------------------------------------------------------
def test_a_model_without_linear_layers_is_refused(here):
    quantization = quantizers.nf4(Nf4Settings(), here)
    handle = ModelHandle(model=nn.Embedding(4, 4), tokenizer=None, source="", digest="")
    with pytest.raises(RecipeError, match="nf4 found no linear layer to quantize in Embedding") as caught:
        quantization.after_load(handle)
    assert caught.value.exit_code == 78


def test_a_device_without_a_backend_is_refused(here, monkeypatch):
    import bitsandbytes

    monkeypatch.setattr(bitsandbytes, "supported_torch_devices", {"cuda"})
    with pytest.raises(MissingError, match="has no backend for the device 'cpu'") as caught:
        quantizers.int8(Int8Settings(), here)
    assert caught.value.exit_code == 69


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_compute_type_that_the_cpu_lacks_is_refused_by_plan_and_run(here, monkeypatch, tmp_path, dtype):
    flags = tmp_path / "cpuinfo"
    flags.write_text("processor\t: 0\nflags\t\t: fpu avx avx2\n")
    monkeypatch.setattr("tunesmith_transformers.loading.device_facts.CPU_FLAGS", flags)
    for attempt in (
        lambda: foresee.check(Int8Settings(compute_dtype=dtype), tmp_path, "cpu"),
        lambda: quantizers.int8(Int8Settings(compute_dtype=dtype), here),
        lambda: quantizers.nf4(Nf4Settings(compute_dtype=dtype), here),
    ):
        with pytest.raises(RecipeError, match=f"this CPU has no units for {dtype}") as caught:
            attempt()
        assert caught.value.exit_code == 78


def test_a_cpu_that_has_the_type_may_use_it(monkeypatch, tmp_path):
    flags = tmp_path / "cpuinfo"
    flags.write_text("processor\t: 0\nflags\t\t: fpu avx512_bf16 avx2\n")
    monkeypatch.setattr("tunesmith_transformers.loading.device_facts.CPU_FLAGS", flags)
    assert foresee.check(Int8Settings(compute_dtype="bfloat16"), tmp_path, "cpu") == ["computes in bfloat16 on cpu"]
    assert foresee.check(Int8Settings(), tmp_path, "cpu") == ["computes in float32 on cpu"]
