"""Apply LoRA: targets, ranks, what is refused, and the number of parameters its definition gives."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from peft import LoraConfig

from tunesmith import Context, ModelHandle, RecipeError
from tunesmith_lora import LoraSettings, loftq
from tunesmith_lora.check import check_experts
from tunesmith_lora.handle import ADAPTER, LoraAdapted, ResidualAdapted
from tunesmith_transformers.peft.adapted import check_rank, check_size, target_layers, task_type
from tunesmith_transformers.peft.experts import target_experts
from tunesmith_transformers.peft.layers import sides
from tunesmith_transformers.peft.ties import own_weight, tied

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
    if both := sorted(set(layers) & set(whole)):
        raise RecipeError(
            f"{both[0]} is in target_modules and in modules_to_save: it cannot be adapted and trained in full at once",
            fix="Leave it out of one of them in [adapter].",
        )
    pair = tied(handle.model)
    if settings.use_dora:
        _check_magnitudes(layers, pair)
    experts = target_experts(handle.model, settings.target_parameters)
    for name, parameter in experts.items():
        check_size(name, parameter.shape[1], parameter.shape[2], settings.rank)
    # PEFT keeps both together where one is trained in full; an adapter on one opens the tie
    kept = any(module in pair for module in whole.values()) and not any(layer in pair for layer in layers.values())
    with warnings.catch_warnings():
        # PEFT warns that it cannot convert the artifact of such a start; the handle does
        warnings.filterwarnings("ignore", message="Using Rank-Stabilized LoRA with rank_pattern")
        config = LoraConfig(
            r=settings.rank,
            lora_alpha=settings.alpha,
            lora_dropout=settings.dropout,
            target_modules=sorted(layers),
            target_parameters=sorted(experts) or None,
            rank_pattern={name: rank for name, rank in ranks.items() if rank != settings.rank},
            alpha_pattern={name: alpha for name, alpha in alphas.items() if alpha != settings.alpha},
            modules_to_save=sorted(whole) or None,
            trainable_token_indices=added_rows(handle, {**layers, **whole}) or None,
            ensure_weight_tying=kept,
            init_lora_weights=True if shapes_only else _init(settings),
            use_rslora=settings.use_rslora,
            use_dora=settings.use_dora,
            task_type=task_type(handle),
        )
    told = settings.rank if len(set(ranks.values())) == 1 else f"{min(ranks.values())} to {max(ranks.values())}"
    more = f" and of every expert in {len(experts)} fused weights" if experts else ""
    context.reporter.say(f"lora: rank {told} on {len(layers)} linear layers{more}")
    adapted = (_residual if residual else LoraAdapted)(handle, config, settings.lora_plus_ratio)
    if kept:
        _check_tie(adapted)
    if settings.init == "loftq" and context.fresh:
        before, after = loftq.start(adapted)
        context.facts["loftq"] = {"relative_error_quantized": before, "relative_error_at_start": after}
        context.reporter.say(f"loftq: at the start the weights are {after:.2%} off, and {before:.2%} without A and B")
    return adapted


def _residual(handle: ModelHandle, config: LoraConfig, ratio: float) -> ResidualAdapted:
    layers = target_layers(handle.model, tuple(config.target_modules))
    for layer in layers.values():  # PEFT would subtract in place, from weights that others may stand on, or share
        own_weight(layer)
    # the approximate decomposition draws numbers; whoever loads the artifact must come to the same residual
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ResidualAdapted(handle, config, ratio)


def parameters(model: Any, settings: LoraSettings) -> int:
    """rank x (in + out) a layer and an expert, one magnitude an output with DoRA, and the modules trained in full."""
    layers = target_layers(model, settings.target_modules)
    ranks = per_layer(model, layers, settings.rank, settings.rank_pattern)
    total = 0
    for name, layer in layers.items():
        total += ranks[name] * sum(sides(layer))
        total += sides(layer)[1] if settings.use_dora else 0
    for parameter in target_experts(model, settings.target_parameters).values():
        count, *both = parameter.shape
        total += count * settings.rank * sum(both)
    whole = modules_to_save(model, settings.modules_to_save).values()
    own = {id(parameter): parameter for module in whole for parameter in module.parameters()}  # tied ones count once
    return total + sum(parameter.numel() for parameter in own.values())


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
        RecipeError: a name is not in the model.
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
    return found


def added_rows(handle: ModelHandle, taken: Mapping[str, Any]) -> dict[str, list[int]]:
    """The rows of embedding and head that are trained since the recipe adds their tokens, by the module's full name.

    A head that shares the embedding's weights follows it.

    Args:
        taken: the modules that are adapted or trained in full anyway, by full name.
    """
    if not handle.added:
        return {}
    model = handle.model
    pair = tied(model)
    if any(module in pair for module in taken.values()):
        pair = ()
    parts = {model.get_input_embeddings()}
    if handle.head == "causal-lm" and not pair:
        parts.add(model.get_output_embeddings())
    names = {name for name, module in model.named_modules() if module in parts} - set(taken)
    return {name: list(handle.added) for name in sorted(names)}


def _check_magnitudes(layers: Mapping[str, Any], pair: tuple[Any, ...]) -> None:
    """DoRA divides by the length of each row, and the row of the pad token is zero in many embeddings.

    Raises:
        RecipeError: a head that shares the embedding's weights has such a row.
    """
    for name, layer in layers.items():
        if layer in pair and not layer.weight.is_meta and bool((layer.weight == 0).all(dim=1).any()):
            raise RecipeError(
                f"use_dora divides by the length of each row of {name}, and its weights, which are those of the "
                "embedding, have rows of zeros",
                fix=f"Set use_dora = false, or leave {name} out of target_modules in [adapter].",
            )


def _check_tie(adapted: LoraAdapted) -> None:
    """PEFT keeps head and embedding together where the model's class says that they are one.

    Raises:
        RecipeError: it has parted them.
    """
    base = adapted.model.get_base_model()
    pair = (base.get_output_embeddings(), base.get_input_embeddings())
    weights = [getattr(module, "modules_to_save", {ADAPTER: module})[ADAPTER].weight for module in pair]
    if weights[0] is not weights[1]:
        raise RecipeError(
            "the head shares its weights with the embedding, and PEFT would train a copy of one alone",
            fix="Leave it out of modules_to_save, or train it with the adapter `head`.",
        )


def _init(settings: LoraSettings) -> bool | str:
    if settings.init in ("default", "loftq"):
        return True
    return f"pissa_niter_{settings.pissa_niter}" if settings.pissa_niter else settings.init


def _check(handle: ModelHandle, settings: LoraSettings) -> None:
    residual = settings.init in ("pissa", "olora")
    check_experts(settings)
    if settings.init == "loftq" and not handle.quantized:
        raise RecipeError(
            'init = "loftq" makes up for what a quantizer took from the weights, and the base is dense',
            fix='Add [quantizer] with use = "nf4", or set init = "default" in [adapter].',
        )
    if settings.init == "loftq" and settings.use_dora:
        raise RecipeError(
            'init = "loftq" gives A and B a start, and DoRA takes its magnitudes from the weights without it',
            fix='Set use_dora = false, or init = "default".',
        )
    if settings.pissa_niter and settings.init != "pissa":
        raise RecipeError("pissa_niter is set, but init is not pissa", fix='Set init = "pissa" or leave it out.')
    if residual and settings.use_dora:
        raise RecipeError(
            f"init = {settings.init!r} takes its start out of the base weights, whose magnitudes DoRA would then miss",
            fix='Set use_dora = false, or init = "default".',
        )
    packed = {type(p).__name__ for p in handle.model.parameters() if p.device.type == "cpu"} if handle.quantized else ()
    if settings.use_dora and "Int8Params" in packed:
        raise RecipeError(
            "use_dora reads the base weights in every step, and PEFT loses the scales of int8 weights on a CPU thereby",
            fix="Use nf4 or fp4 in [quantizer], or set use_dora = false.",
        )
    if residual:
        # the residual W - BA would have to be rounded again, and then base and adapter no longer add up to W
        handle.must_be_dense(f"init = {settings.init!r}, which takes its start out of the weights,")
