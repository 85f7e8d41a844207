"""Bases whose weights are quantized: recognised, refused with the reason, and trained over as they are."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tunesmith import MissingError, RecipeError
from tunesmith_transformers.training.settings import ModelSettings

#: What Transformers needs to load weights of a method; read here so that a plan can say it.
NEEDS = {
    "bitsandbytes": ("bitsandbytes", "accelerate"),
    "gptq": ("gptqmodel", "optimum"),
    "awq": ("gptqmodel", "accelerate"),
    "torchao": ("torchao",),
    "hqq": ("hqq",),
    "aqlm": ("aqlm",),
    "compressed-tensors": ("compressed_tensors",),
}


def stored(folder: Path) -> dict[str, Any] | None:
    """The `quantization_config` of a model folder, or None when its weights are dense."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):  # the folder's own check says what is wrong with it
        return None
    if not isinstance(config, dict):
        return None
    found = config.get("quantization_config")
    if found is None and isinstance(config.get("text_config"), dict):
        found = config["text_config"].get("quantization_config")
    return found if isinstance(found, dict) else None


def method_of(config: Mapping[str, Any]) -> str:
    """What a stored quantization is called: `nf4`, `fp4`, `int8`, `gptq`, `awq`, ..."""
    method = str(config.get("quant_method") or ("bitsandbytes" if "load_in_4bit" in config else "unknown"))
    if method == "bitsandbytes":
        return str(config.get("bnb_4bit_quant_type", "fp4")) if config.get("load_in_4bit") else "int8"
    return method


def of_directory(settings: ModelSettings, folder: Path) -> str | None:
    """How the weights of a model folder are quantized: `Model.quantized` of the source `directory`."""
    from tunesmith_transformers.sources.claims import place

    config = stored(place(settings.source, folder))
    return method_of(config) if config else None


def need(folder: Path) -> list[str]:
    """A sentence about a base that is stored quantized, if it is.

    Raises:
        MissingError: what Transformers needs to load it is not installed.
    """
    config = stored(folder)
    if config is None:
        return []
    method = str(config.get("quant_method") or "bitsandbytes")
    missing = [name for name in NEEDS.get(method, ()) if find_spec(name) is None]
    if missing:
        raise MissingError(
            f"the model in {folder} is stored quantized ({method_of(config)}), which needs {', '.join(missing)}, "
            "not installed here",
            where=str(folder / "config.json"),
            fix=f"Run: pip install {' '.join(missing)}, or give the same model in full precision.",
        )
    return [f"the base is stored quantized ({method_of(config)}) and is used as it is; adapters are trained over it"]


def check_trainable(folder: Path, options: Mapping[str, Any]) -> str | None:
    """Ask Transformers whether it can train over a folder's stored quantization, before its weights are read.

    Returns:
        what the quantization is called; None for dense weights.

    Raises:
        RecipeError: a quantizer is to be applied on top, or Transformers cannot train over the method.
        MissingError: it cannot load the method here; the message gives its reason.
    """
    config = stored(folder)
    if config is None:
        return None
    name = method_of(config)
    if "quantization_config" in options:
        raise already_quantized(name, str(folder))
    from transformers.quantizers.auto import AutoHfQuantizer

    try:
        quantizer = AutoHfQuantizer.from_config(dict(config), pre_quantized=True)
        quantizer.validate_environment(device_map=None, weights_only=True)
        trainable = quantizer.is_trainable
    except (ImportError, RuntimeError, ValueError, TypeError, KeyError) as error:
        raise MissingError(
            f"the model in {folder} is stored quantized ({name}) and cannot be loaded here: "
            f"{' '.join(str(error).split())}"[:500],
            where=str(folder / "config.json"),
            fix="Install what it needs, or give the same model in full precision.",
        ) from error
    if not trainable:
        raise RecipeError(
            f"the model in {folder} is stored quantized ({name}), and Transformers cannot train over that method",
            where=str(folder / "config.json"),
            fix="Give the same model in full precision; [quantizer] can quantize it while loading.",
        )
    return name


def already_quantized(name: str, source: str) -> RecipeError:
    """The error for a quantizer over weights that are quantized already."""
    return RecipeError(
        f"the base {source} is stored quantized ({name}) already and cannot be quantized again",
        fix="Leave out [quantizer], or give the same model in full precision.",
    )


@contextmanager
def own_adapter(model: Any) -> Iterator[None]:
    """Let a trainer be built over a quantized base without its opinions about the adapter.

    Transformers refuses adapters over a quantized base that are not PEFT's, and TRL casts what is trained to
    bfloat16. Both are undone: the trainable parameters come out with the values and the type that they had.
    """
    kept = [(parameter, parameter.data) for parameter in model.parameters() if parameter.requires_grad]
    strange = getattr(model, "is_quantized", False) and not hasattr(model, "peft_config") and bool(kept)
    before = getattr(model, "_hf_peft_config_loaded", False)
    if strange:
        model._hf_peft_config_loaded = True
    try:
        yield
    finally:
        if strange:
            model._hf_peft_config_loaded = before
        for parameter, data in kept:
            if parameter.data.dtype != data.dtype:
                parameter.data = data


def leave_file(model: Any) -> None:
    """Copy what was not quantized out of the file of the weights, so that the file is not mapped any longer.

    One tensor that still stands in it keeps the whole file in memory, the dense weights of quantized layers included.
    """
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.device.type == "cpu" and tensor.is_floating_point():
            tensor.data = tensor.data.clone()


def keep_layout(model: Any) -> None:
    """Keep bitsandbytes from packing 4-bit weights anew in the first evaluation on a CPU with bfloat16 units.

    The packed form rounds the scales to bfloat16, has no backward pass, and is not turned back for training: a
    model that was evaluated first would be trained without the gradients that pass through its base.
    """
    for module in model.modules():
        if getattr(module, "support_avx512bf16_for_cpu", False):
            module.support_avx512bf16_for_cpu = False
