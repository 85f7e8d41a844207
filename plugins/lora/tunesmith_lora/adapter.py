"""Apply LoRA: targets, ranks, what is refused, and the number of parameters its definition gives."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from peft import LoraConfig

from tunesmith import Context, ModelHandle, RecipeError
from tunesmith_lora import LoraSettings
from tunesmith_lora.handle import LoraAdapted, ResidualAdapted
from tunesmith_transformers.layers import sides
from tunesmith_transformers.peft_adapted import check_rank, target_layers, task_type

Value = TypeVar("Value", int, float)


def apply(handle: ModelHandle, settings: LoraSettings, context: Context) -> LoraAdapted:
    """Wrap the target layers.

    Raises:
        RecipeError: a target is not in the model, a rank is over a layer's size, or settings exclude each other.
    """
    _check(handle, settings)
    # PEFT's decomposition for OLoRA takes no notice of transposed weights
    upright = "lora with init = 'olora'" if settings.init == "olora" else ""
    layers = target_layers(handle.model, settings.target_modules, upright=upright)
    ranks = per_layer(handle.model, layers, settings.rank, settings.rank_pattern)
    alphas = per_layer(handle.model, layers, settings.alpha, settings.alpha_pattern)
    for name, layer in layers.items():
        check_rank({name: layer}, ranks[name])
    shapes_only = any(layer.weight.is_meta for layer in layers.values())
    residual = settings.init in ("pissa", "olora") and not shapes_only
    whole = modules_to_save(handle.model, settings.modules_to_save)
    with warnings.catch_warnings():
        # PEFT warns that it cannot convert the artifact of such a start; the handle does
        warnings.filterwarnings("ignore", message="Using Rank-Stabilized LoRA with rank_pattern")
        config = LoraConfig(
            r=settings.rank,
            lora_alpha=settings.alpha,
            lora_dropout=settings.dropout,
            target_modules=sorted(layers),
            rank_pattern={name: rank for name, rank in ranks.items() if rank != settings.rank},
            alpha_pattern={name: alpha for name, alpha in alphas.items() if alpha != settings.alpha},
            modules_to_save=sorted(whole) or None,
            init_lora_weights=True if shapes_only else _init(settings),
            use_rslora=settings.use_rslora,
            use_dora=settings.use_dora,
            task_type=task_type(handle),
        )
    told = settings.rank if len(set(ranks.values())) == 1 else f"{min(ranks.values())} to {max(ranks.values())}"
    context.reporter.say(f"lora: rank {told} on {len(layers)} linear layers")
    if not residual:
        return LoraAdapted(handle, config, settings.lora_plus_ratio)
    for layer in layers.values():  # PEFT would subtract in place, from weights that other adapters may stand on
        layer.weight.data = layer.weight.data.clone()
    # the approximate decomposition draws numbers; whoever loads the artifact must come to the same residual
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ResidualAdapted(handle, config, settings.lora_plus_ratio)


def parameters(model: Any, settings: LoraSettings) -> int:
    """rank x (in + out) a layer, one magnitude an output with DoRA, and the modules that are trained in full."""
    layers = target_layers(model, settings.target_modules)
    ranks = per_layer(model, layers, settings.rank, settings.rank_pattern)
    total = 0
    for name, layer in layers.items():
        total += ranks[name] * sum(sides(layer))
        total += sides(layer)[1] if settings.use_dora else 0
    whole = modules_to_save(model, settings.modules_to_save).values()
    return total + sum(parameter.numel() for module in whole for parameter in module.parameters())


def per_layer(model: Any, layers: Mapping[str, Any], value: Value, pattern: Mapping[str, Value]) -> dict[str, Value]:
    """The value of each target layer.

    Raises:
        RecipeError: a name in `pattern` is none of the target layers.
    """
    found = dict.fromkeys(layers, value)
    for target, other in pattern.items():
        matching = [name for name in target_layers(model, (target,)) if name in layers]
        if not matching:
            raise RecipeError(
                f"a pattern in [adapter] names {target!r}, which is not among the adapted layers",
                fix="Add it to target_modules, or leave it out of the pattern.",
            )
        found.update(dict.fromkeys(matching, other))
    return found


def modules_to_save(model: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """The modules that are trained in full, by full name.

    Raises:
        RecipeError: a name is not in the model, or the module's weights are tied to another's.
    """
    found: dict[str, Any] = {}
    modules = dict(model.named_modules())
    for wanted in names:
        matching = {n: m for n, m in modules.items() if n == wanted or n.endswith(f".{wanted}")}
        if not matching:
            last = sorted({n.rpartition(".")[2] for n, m in modules.items() if n and list(m.parameters(recurse=False))})
            raise RecipeError(
                f"the model has no module called {wanted!r}",
                details=[f"modules with weights: {', '.join(last)}"],
                fix="Mend modules_to_save in [adapter].",
            )
        found.update(matching)
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    embedding = model.get_input_embeddings() if head is not None else None
    if head is not None and embedding is not None and head.weight is embedding.weight:
        tied = [name for name, module in found.items() if module in (head, embedding)]
        if tied:
            raise RecipeError(
                f"{tied[0]} shares its weights with {'the head' if found[tied[0]] is embedding else 'the embedding'}: "
                "training a copy of it would part them",
                fix="Leave it out of modules_to_save, or train it with the adapter `head`.",
            )
    return found


def _init(settings: LoraSettings) -> bool | str:
    if settings.init == "default":
        return True
    return f"pissa_niter_{settings.pissa_niter}" if settings.pissa_niter else settings.init


def _check(handle: ModelHandle, settings: LoraSettings) -> None:
    residual = settings.init in ("pissa", "olora")
    if settings.pissa_niter and settings.init != "pissa":
        raise RecipeError("pissa_niter is set, but init is not pissa", fix='Set init = "pissa" or leave it out.')
    if residual and settings.use_dora:
        raise RecipeError(
            f"init = {settings.init!r} takes its start out of the base weights, whose magnitudes DoRA would then miss",
            fix='Set use_dora = false, or init = "default".',
        )
    if residual and handle.quantized:
        raise RecipeError(
            f"init = {settings.init!r} changes the base weights, which are quantized ({handle.quantized}) here",
            fix='Set init = "default", or leave out the quantizer.',
        )
