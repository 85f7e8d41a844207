"""Heads that a role puts on a language model: which modules they are, their scores, and changing one for another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from tunesmith import Adapted, ModelHandle, RecipeError
from tunesmith_transformers.loading import HEADS


def head_modules(model: Any) -> dict[str, nn.Module]:
    """The modules with weights that stand on the base model, by name; empty for a language model without a new head.

    Args:
        model: a model of Transformers, unadapted. One whose head is its output embeddings has no other.
    """
    if not hasattr(model, "base_model_prefix") or model.base_model is model:
        return {}
    if model.get_output_embeddings() is not None:
        return {}
    return {
        name: module
        for name, module in model.named_children()
        if name != model.base_model_prefix and any(True for _ in module.parameters())
    }


def check_head_trained(adapted: Adapted) -> None:
    """Refuse an adapter that leaves a head untrained which the role has put on the model.

    Raises:
        RecipeError: naming the head's modules.
    """
    trainable = adapted.trainable()
    untrained = [
        name for name in _heads_below(adapted) if not any(f".{name}." in f".{parameter}" for parameter in trainable)
    ]
    if untrained:
        raise RecipeError(
            f"the adapter leaves the model's new head untrained: {', '.join(untrained)}",
            fix="Choose an adapter that trains it: lora, any other of PEFT's that changes weights, full, head, or "
            "last-layers with head = true.",
        )


def scores(model: Any, inputs: Mapping[str, Any]) -> torch.Tensor:
    """The score of each row, read at its last token.

    Transformers' own reading looks for the last token that is not the pad token, which is one too early when the end
    token pads. Here the attention mask decides.

    Args:
        model: with a scalar head, possibly wrapped by PEFT.
        inputs: `input_ids` and `attention_mask` (B, T), and whatever else the model takes.

    Returns:
        (B,) in float32.
    """
    values = head_outputs(model, inputs)  # (B, T, 1), or (B, 1) where the model pools before its head
    if values.dim() == 3:
        mask = inputs["attention_mask"]
        places = torch.arange(mask.shape[1], device=mask.device)
        last = (mask * places).argmax(dim=1)  # (B,)
        values = values[torch.arange(len(values), device=values.device), last.to(values.device)]  # (B, 1)
    return values[:, 0]


def head_outputs(model: Any, inputs: Mapping[str, Any]) -> torch.Tensor:
    """What the scalar head gives at every position that it is called on.

    Args:
        model, inputs: see `scores`.

    Returns:
        (B, T', 1) in float32, T' over T by as many virtual tokens as an adapter puts in front; (B, 1) where the model
        pools before its head.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    (head,) = head_modules(inner).values()
    seen: list[torch.Tensor] = []
    handle = head.register_forward_hook(lambda module, arguments, output: seen.append(output))
    try:
        model(**inputs, use_cache=False)
    finally:
        handle.remove()
    return seen[-1].float()


def with_head(handle: ModelHandle, head: str, seed: int) -> ModelHandle:
    """The same base model under another head, whose weights are drawn by `seed`; the base's are shared.

    Raises:
        RecipeError: Transformers has no such class for this model.
    """
    import transformers

    if handle.head == head:
        return handle
    old = handle.model
    config = old.config
    if head == "scalar":
        config.num_labels = 1
    try:
        with torch.device("meta"):  # nothing of the new model is kept but its head
            new = getattr(transformers, HEADS[head]).from_config(config)
    except ValueError as error:
        raise no_class(type(config).__name__, head) from error
    prefix = new.base_model_prefix
    setattr(new, prefix, getattr(old, old.base_model_prefix))
    device = next(old.parameters()).device
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for module in head_modules(new).values():
            module.to_empty(device=device)
            module.apply(new._init_weights)
            module.to(old.dtype)
    new.train(old.training)
    return replace(handle, model=new, head=head)


def no_class(model: str, head: str) -> RecipeError:
    """The error for a kind of model that Transformers does not offer with this head."""
    return RecipeError(
        f"Transformers has no {HEADS[head].removeprefix('AutoModelFor')} class for {model}, "
        f"which a {head!r} head needs",
        fix="Choose another model in [model], such as one of the Llama or Qwen families.",
    )


def _heads_below(adapted: Adapted) -> dict[str, nn.Module]:
    model = adapted.model
    return head_modules(model.get_base_model() if hasattr(model, "get_base_model") else model)
