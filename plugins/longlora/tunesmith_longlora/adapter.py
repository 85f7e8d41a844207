"""Apply LongLoRA: what is trained, what is refused, and the number of parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peft import LoraConfig
from torch import nn

from tunesmith import Context, ModelHandle, RecipeError
from tunesmith_longlora import LongLoraSettings
from tunesmith_longlora.handle import LongLoraAdapted
from tunesmith_longlora.positions import Positions, rotary
from tunesmith_transformers.loading.heads import head_modules
from tunesmith_transformers.peft.adapted import check_rank, target_layers, task_type
from tunesmith_transformers.peft.layers import sides
from tunesmith_transformers.peft.ties import tied


def apply(handle: ModelHandle, settings: LongLoraSettings, context: Context) -> LongLoraAdapted:
    """Scale the positions, put the attention in, and wrap the model; `handle.max_length` grows with the positions.

    Raises:
        RecipeError: the model's attention or positions are not of the kind, or a target or a rank does not fit.
    """
    model = handle.model
    layers = targets(model, settings.target_modules)
    check_rank(layers, settings.rank)
    whole = in_full(model, settings)
    own = handle.max_length
    longest = None if own is None else round(own * settings.scale)
    group_size = settings.group_size or quarter(longest)
    check_model(model, longest)
    positions = Positions(model, settings.scale, settings.rope) if settings.scale > 1 else None
    # the base is measured before training on the same rows as what is trained
    handle.max_length = longest
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=sorted(layers),
        modules_to_save=sorted(whole) or None,
        # without it PEFT would train a copy of the embeddings and leave the head that shares them behind
        ensure_weight_tying=settings.train_embeddings and keeps_tie(model, layers),
        task_type=task_type(handle),
    )
    adapted = LongLoraAdapted(handle, config, group_size, positions)
    context.reporter.say(
        f"longlora: rank {settings.rank} on {len(layers)} linear layers and {len(whole)} modules in full; "
        f"attention in groups of {group_size} tokens while training"
        + (f"; {own} positions scaled to {longest} ({settings.rope})" if positions else "")
    )
    return adapted


def parameters(model: Any, settings: LongLoraSettings) -> int:
    """rank x (in + out) a layer, and the weights of norms and embeddings where they are trained."""
    layers = targets(model, settings.target_modules).values()
    low_rank = sum(settings.rank * sum(sides(layer)) for layer in layers)
    whole = {**in_full(model, settings), **head_modules(model)}
    return low_rank + sum(p.numel() for module in whole.values() for p in module.parameters())


def targets(model: Any, wanted: str | tuple[str, ...]) -> dict[str, Any]:
    """The linear layers to adapt, by full name; `attention` means those inside the attention.

    Raises:
        RecipeError: there are none.
    """
    if wanted != "attention":
        return target_layers(model, wanted)
    places = list(attentions(model))
    layers = target_layers(model, "all-linear")
    found = {name: layer for name, layer in layers.items() if any(name.startswith(f"{place}.") for place in places)}
    if not found:
        raise RecipeError(
            f"no linear layer of {type(model).__name__} belongs to its attention",
            details=[f"linear layers: {', '.join(list(layers)[:8])}"],
            fix="Name target_modules in [adapter].",
        )
    return found


def in_full(model: Any, settings: LongLoraSettings) -> dict[str, nn.Module]:
    """The modules that are trained with all their weights, by full name: norms and input embeddings."""
    found = {}
    embeddings = model.get_input_embeddings()
    for name, module in model.named_modules():
        weights = list(module.parameters(recurse=False))
        norm = settings.train_norms and type(module).__name__.lower().endswith("norm") and weights
        if norm or (settings.train_embeddings and module is embeddings):
            found[name] = module
    return found


def attentions(model: Any) -> dict[str, Any]:
    """The attention modules that Transformers gives an attention function, by full name."""
    return {name: module for name, module in model.named_modules() if hasattr(module, "is_causal")}


def keeps_tie(model: Any, layers: Mapping[str, Any]) -> bool:
    """Whether the head shares the weights of the input embeddings, and is not adapted by itself."""
    pair = tied(model)
    return bool(pair) and not any(layer in pair for layer in layers.values())


def quarter(longest: int | None) -> int:
    """A quarter of the positions, even: the paper's choice.

    Raises:
        RecipeError: the model does not say how many positions it takes.
    """
    if longest is None:
        raise RecipeError(
            "the model has no limit of positions to take a quarter of", fix="Set group_size in [adapter]."
        )
    return max(2, longest // 8 * 2)


def check_model(model: Any, longest: int | None) -> None:
    """Refuse positions that do not go on, and attention that groups would change in another way than to cut it.

    Args:
        longest: positions that the model shall take, in tokens.

    Raises:
        RecipeError: with what it is.
    """
    why = _unfit(model, model.config.get_text_config(), longest)
    if why:
        raise RecipeError(
            f"longlora cannot train {type(model).__name__}: {why}",
            fix="Use a model with full causal attention (Llama, Qwen 2 and 3, GPT-NeoX, ...), or another adapter.",
        )


def _unfit(model: Any, config: Any, longest: int | None) -> str | None:
    found = attentions(model)
    if not getattr(model, "_supports_attention_backend", False) or not getattr(model, "_supports_sdpa", False):
        return "it does not take an attention function of Transformers' AttentionInterface"
    if not rotary(model):  # such models read positions out of the mask, or have a table of them that ends
        return "it has no rotary positions"
    if config.is_encoder_decoder or not found or not all(module.is_causal for module in found.values()):
        return "its attention is not causal self-attention throughout"
    if getattr(config, "attn_logit_softcapping", None) is not None:
        return "its attention caps the logits, which sdpa cannot"
    kinds = set(getattr(config, "layer_types", None) or ())
    if kinds - {"full_attention", "sliding_attention"}:
        return f"it has layers of other kinds: {', '.join(sorted(kinds))}"
    window = None if kinds == {"full_attention"} else getattr(config, "sliding_window", None)
    if window is not None and (longest is None or window < longest):
        return f"its attention has a window of {window} tokens, while training would attend by groups"
    return None
