"""LoftQ: A and B start as what rounding took from the weights (Li et al. 2023, arXiv 2310.08659).

Algorithm 1 with one step: Q = q(W) is the base as the quantizer made it, and B A is the best approximation of W - Q
of rank r, by singular values. The base stays what everybody gets who quantizes W, so the artifact is a plain LoRA.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from tunesmith import RecipeError
from tunesmith_transformers.peft.adapted import PeftAdapted

ADAPTER = "default"  # PEFT's name of the only adapter
AGREEING = 0.99  # share of packed bytes that must come out of the dense weights again


def start(adapted: PeftAdapted) -> tuple[float, float]:
    """Set A and B of every layer with 4-bit weights; other layers have lost nothing and keep their start.

    Returns:
        The relative error |W - Q| / |W| over these layers, and |W - Q - scale B A| / |W|.

    Raises:
        RecipeError: no layer is 4-bit, or the dense weights that the base was made of are not at hand.
    """
    layers = _four_bit(adapted)
    if not layers:
        raise RecipeError(
            'init = "loftq" makes up for rounding to 4 bits, and no adapted layer of the base '
            f"({adapted.handle.quantized}) is in nf4 or fp4",
            fix='Set use = "nf4" or "fp4" in [quantizer], or init = "default".',
        )
    whole = before = after = 0.0
    with torch.no_grad():
        for name, weight in _dense(adapted, layers):
            layer = layers[name]
            rest = weight - _rounded(name, weight, layer)  # (out, in)
            a, b = layer.lora_A[ADAPTER].weight, layer.lora_B[ADAPTER].weight  # (r, in), (out, r)
            left, values, right = torch.linalg.svd(rest, full_matrices=False)
            root = (values[: a.shape[0]] / layer.scaling[ADAPTER]).sqrt()
            a.copy_(root[:, None] * right[: a.shape[0]])
            b.copy_(left[:, : a.shape[0]] * root)
            whole += float(weight.square().sum())
            before += float(rest.square().sum())
            after += float((rest - layer.scaling[ADAPTER] * (b.float() @ a.float())).square().sum())
    return (before / whole) ** 0.5, (after / whole) ** 0.5


def _four_bit(adapted: PeftAdapted) -> dict[str, Any]:
    """The adapted layers over 4-bit weights, by their name in the base."""
    modules = adapted.model.base_model.model.named_modules()
    adapters = {name: module for name, module in modules if ADAPTER in getattr(module, "lora_A", ())}
    return {n: m for n, m in adapters.items() if type(m.get_base_layer().weight).__name__ == "Params4bit"}


def _dense(adapted: PeftAdapted, layers: Mapping[str, Any]) -> Iterator[tuple[str, torch.Tensor]]:
    """Each layer's weights as they are stored: name and (out, in) in float32, one at a time."""
    base = adapted.model.base_model.model
    folder = Path(base.name_or_path)
    prefix = f"{base.base_model_prefix}."
    files: dict[str, Path] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(str(path), framework="pt") as file:
            files.update(dict.fromkeys(file.keys(), path))
    for name, layer in layers.items():
        stored = f"{name}.weight"
        key = next((key for key in (stored, stored.removeprefix(prefix)) if key in files), None)
        if key is None:
            raise RecipeError(
                f'init = "loftq" needs the dense weights of {name}, which are not in {folder}',
                fix='Give a model whose folder holds dense safetensors, or set init = "default".',
            )
        packed = layer.get_base_layer().weight
        with safe_open(str(files[key]), framework="pt") as file:
            weight = file.get_tensor(key)
        if not weight.is_floating_point() or weight.shape != (layer.out_features, layer.in_features):
            raise RecipeError(
                f'init = "loftq" needs the dense weights of {name}, and {folder} stores them quantized',
                fix='Give a model whose folder holds dense safetensors, or set init = "default".',
            )
        yield name, weight.to(packed.device, torch.float32)


def _rounded(name: str, weight: torch.Tensor, layer: Any) -> torch.Tensor:
    """The base's weights (out, in) in float32, after checking that they are `weight` rounded."""
    from bitsandbytes import functional

    packed = layer.get_base_layer().weight
    state = packed.quant_state
    again, _ = functional.quantize_4bit(
        weight.to(state.dtype), blocksize=state.blocksize, quant_type=state.quant_type, quant_storage=packed.dtype
    )
    same = again.view(torch.uint8).flatten() == packed.data.view(torch.uint8).flatten()
    if float(same.float().mean()) < AGREEING:
        raise RecipeError(
            f'init = "loftq" needs the weights that {name} was rounded from, but the stored ones are others: an '
            "earlier stage was merged into the base",
            fix='Set init = "default" in [adapter].',
        )
    return functional.dequantize_4bit(packed.data, state).float()
