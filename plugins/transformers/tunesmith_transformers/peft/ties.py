"""Head and embedding that share their weights: which they are, and parting them where an adapter changes one alone."""

from __future__ import annotations

from typing import Any


def tied(model: Any) -> tuple[Any, ...]:
    """The head and the embedding of an unadapted model, where they share their weights; else none."""
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    embedding = model.get_input_embeddings() if head is not None else None
    shared = head is not None and embedding is not None and head.weight is embedding.weight
    return (head, embedding) if shared else ()


def own_weight(layer: Any) -> None:
    """Give a layer its weight by itself: whatever shared it, or stands on the same base, keeps the old one."""
    from torch import nn

    layer.weight = nn.Parameter(layer.weight.detach().clone(), requires_grad=layer.weight.requires_grad)


def open_ties(model: Any) -> None:
    """Part each adapted layer from the modules that share its weight, so that a merge changes it alone.

    While training, the adapter stands beside the shared weight and only its own layer is changed; PEFT's merge would
    write the change into the weight of both.

    Args:
        model: a model of Transformers with PEFT's layers in it.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    holders: dict[int, int] = {}
    for module in model.modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                holders[id(parameter)] = holders.get(id(parameter), 0) + 1
    for module in model.modules():
        if not isinstance(module, BaseTunerLayer):
            continue
        base = module.get_base_layer()
        weight = base._parameters.get("weight")
        if weight is not None and holders.get(id(weight), 0) > 1:
            own_weight(base)


def say_untied(model: Any) -> None:
    """Let the configuration of an unadapted model say where its head has weights of its own: then both are saved."""
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    if head is None or tied(model) or not getattr(model.config, "tie_word_embeddings", False):
        return
    for config in {id(c): c for c in (model.config, model.config.get_text_config())}.values():
        if getattr(config, "tie_word_embeddings", False):
            config.tie_word_embeddings = False
    model.all_tied_weights_keys = model.get_expanded_tied_weights_keys(all_submodels=True)
