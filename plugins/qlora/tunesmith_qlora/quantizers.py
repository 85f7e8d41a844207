"""From settings to a quantized load: what the model source is told, and what is measured afterwards."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from tunesmith import Context, MissingError, ModelHandle, Quantization, RecipeError
from tunesmith_qlora import FourBitSettings, Int8Settings, Nf4Settings
from tunesmith_qlora.foresee import refuse_slow
from tunesmith_qlora.size import measured
from tunesmith_transformers.loading.model import choose_device, choose_dtype, quiet

#: What models call their output layers. Transformers leaves them dense by itself only when no other layer is named.
HEADS = ("lm_head", "embed_out", "output_projection", "score", "classifier", "pre_classifier")


def nf4(settings: Nf4Settings, context: Context) -> Quantization:
    """4-bit NormalFloat (arXiv 2305.14314, section 3).

    Raises:
        MissingError: bitsandbytes has no backend for the device.
        RecipeError: the device lacks the compute type.
    """
    return _four_bit("nf4", settings, context)


def fp4(settings: FourBitSettings, context: Context) -> Quantization:
    """4-bit floating point: one sign, two exponent bits and one of mantissa.

    Raises:
        MissingError, RecipeError: as `nf4`.
    """
    return _four_bit("fp4", settings, context)


def int8(settings: Int8Settings, context: Context) -> Quantization:
    """8-bit integers with a scale a row, outlying inputs in full precision.

    Raises:
        MissingError, RecipeError: as `nf4`.
    """
    device, dtype = _surroundings(settings.compute_dtype, context)
    from transformers import BitsAndBytesConfig

    _quiet_products()
    options = {
        "quantization_config": BitsAndBytesConfig(
            load_in_8bit=True,
            llm_int8_threshold=settings.threshold,
            llm_int8_skip_modules=_skipped(settings.skip_modules, context),
        ),
        **({} if settings.compute_dtype == "auto" else {"dtype": dtype}),  # else [model] dtype holds
    }
    rounding = "" if dtype == torch.float16 else "; inputs pass through float16 on their way to int8"
    others = "as [model] has them" if settings.compute_dtype == "auto" else f"in {_named(dtype)}"
    said = f"int8: other weights {others} on {device}, outliers over {settings.threshold:g} apart{rounding}"
    return _quantization("int8", options, said, settings.skip_modules, context)


def _four_bit(name: str, settings: FourBitSettings, context: Context) -> Quantization:
    device, dtype = _surroundings(settings.compute_dtype, context)
    from transformers import BitsAndBytesConfig

    options = {
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=name,
            bnb_4bit_use_double_quant=settings.double_quant,
            bnb_4bit_compute_dtype=dtype,
            llm_int8_skip_modules=_skipped(settings.skip_modules, context),
        )
    }
    twice = ", scales quantized too" if settings.double_quant else ""
    said = f"{name}: computing in {_named(dtype)} on {device}{twice}"
    return _quantization(name, options, said, settings.skip_modules, context)


def _quantization(
    name: str, options: Mapping[str, Any], said: str, skipped: tuple[str, ...], context: Context
) -> Quantization:
    def after_load(handle: ModelHandle) -> ModelHandle:
        _check(handle.model, name, skipped)
        facts = measured(handle.model)
        context.facts["quantization"] = {"quantizer": name, **facts}
        note = (
            f"{facts['bits_a_parameter']:.3f} bits a parameter in {facts['quantized_layers']} quantized layers "
            f"({facts['quantized_parameters']:,} parameters), {facts['bits_a_parameter_of_the_model']:.3f} over the "
            f"whole model, {facts['bytes'] / 1e6:.1f} MB"
        )
        return replace(handle, notes=(*handle.notes, said, note))

    return Quantization(name=name, load_options=options, after_load=after_load)


def _surroundings(wanted: str, context: Context) -> tuple[str, torch.dtype]:
    """The device and the compute type.

    Raises:
        MissingError: bitsandbytes cannot be imported, or has no backend for the device.
        RecipeError: the device lacks the type.
    """
    device = choose_device(context.device)
    kind = device.partition(":")[0]
    quiet()  # before bitsandbytes is imported, which has a remark of its own
    try:
        import bitsandbytes
    except Exception as error:  # a native library that does not load raises many kinds
        raise MissingError(
            f"bitsandbytes cannot be imported: {type(error).__name__}: {str(error).partition(chr(10))[0]}",
            fix="Reinstall it: pip install --force-reinstall bitsandbytes",
        ) from error
    supported = set(getattr(bitsandbytes, "supported_torch_devices", {"cuda"}))
    if kind not in supported:
        raise MissingError(
            f"bitsandbytes {bitsandbytes.__version__} has no backend for the device {kind!r}",
            details=[f"it has one for {', '.join(sorted(supported))}"],
            fix='Leave out [quantizer], or set device = "cpu" in [run].',
        )
    refuse_slow(wanted, kind)
    dtype = choose_dtype(wanted, device)
    if kind == "cuda" and dtype == torch.bfloat16 and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise RecipeError(
            "compute_dtype = 'bfloat16', which this GPU does not have",
            fix='Set compute_dtype = "auto" or "float16" in [quantizer].',
        )
    return device, dtype


def _skipped(modules: tuple[str, ...], context: Context) -> list[str] | None:
    """What stays dense by name; None leaves it to Transformers, which does not know a head with a bias for one."""
    return [*modules, *HEADS] if modules or context.labels is not None else None


def _check(model: Any, name: str, skipped: tuple[str, ...]) -> None:
    """Refuse a load that quantized nothing, or the output head.

    Raises:
        RecipeError: saying which.
    """
    from tunesmith_qlora.size import quantized_layers

    layers = quantized_layers(model)
    if not layers:
        raise RecipeError(
            f"{name} found no linear layer to quantize in {type(model).__name__}",
            details=[f"left dense: {', '.join(skipped)}"] if skipped else [],
            fix="Leave out [quantizer]; its weights are not held in linear layers.",
        )
    from torch import nn

    linear = [key for key, module in model.named_modules() if isinstance(module, nn.Linear)]
    for wanted in skipped:
        if not any(key.endswith(wanted) for key in linear):
            raise RecipeError(
                f"skip_modules names {wanted!r}, and no linear layer of {type(model).__name__} ends so",
                details=[f"linear layers: {', '.join(sorted({key.rpartition('.')[2] for key in linear}))}"],
                fix="Mend skip_modules in [quantizer].",
            )
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    if any(layer is head for layer in layers.values()):
        own = next(key for key, layer in layers.items() if layer is head)
        raise RecipeError(
            f"{name} would quantize the output head {own}, and with it every answer",
            fix=f'Add "{own}" to skip_modules in [quantizer].',
        )


def _quiet_products() -> None:
    """Drop the line that bitsandbytes prints at each product of an input that is not float16; the notes say it once."""
    logger = logging.getLogger("bitsandbytes.autograd._functions")
    if not any(isinstance(item, _NoCastLine) for item in logger.filters):
        logger.addFilter(_NoCastLine())


class _NoCastLine(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return "inputs will be cast" not in str(record.msg)


def _named(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
