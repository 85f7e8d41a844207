"""Heads that a role puts on a language model: which modules they are, their scores, and changing one for another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from tunesmith import Adapted, ModelHandle, PluginError, RecipeError
from tunesmith.labels import LABEL_HEADS, Labels
from tunesmith_transformers.loading.model import HEADS
from tunesmith_transformers.loading.pooled import KEY, PREFIX, Pooling, pooled_class


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
    """The score of each row (B,): what a scalar head gives at its last token. See `row_outputs`."""
    return row_outputs(model, inputs)[:, 0]


def row_outputs(model: Any, inputs: Mapping[str, Any]) -> torch.Tensor:
    """The head's outputs for each row, read at its last token where the model does not sum up the row itself.

    Transformers' own reading looks for the last token that is not the pad token, which is one too early when the end
    token pads. Here the attention mask decides.

    Args:
        model: with a head over whole texts (scalar or labels), possibly wrapped by PEFT.
        inputs: `input_ids` and `attention_mask` (B, T), and whatever else the model takes.

    Returns:
        (B, L) in float32, for L outputs of the head.
    """
    return at_last(head_outputs(model, inputs), inputs["attention_mask"])


def at_last(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """What stands at each row's last token (B, L), of values at every position (B, T, L); (B, L) stays as it is."""
    if values.dim() == 2:
        return values
    places = torch.arange(mask.shape[1], device=mask.device)
    last = (mask * places).argmax(dim=1)  # (B,)
    return values[torch.arange(len(values), device=values.device), last.to(values.device)]


def head_outputs(model: Any, inputs: Mapping[str, Any]) -> torch.Tensor:
    """What the head gives at every position that it is called on.

    Args:
        model, inputs: see `row_outputs`.

    Returns:
        (B, T', L) in float32, T' over T by as many virtual tokens as an adapter puts in front; (B, L) where the model
        pools before its head.
    """
    return head_call(model, inputs)[1]


def head_call(model: Any, inputs: Mapping[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """What the head's last module reads and gives, in float32; see `head_outputs`."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    head = last_head(model)
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []
    handle = head.register_forward_hook(lambda module, arguments, output: seen.append((arguments[0], output)))
    try:
        model(**inputs, **without_cache(inner))
    finally:
        handle.remove()
    read, given = seen[-1]
    return read.float(), given.float()


def last_head(model: Any) -> nn.Module:
    """The last module of a head, below any wrapper of PEFT: DistilBERT has a layer before it."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return list(head_modules(inner).values())[-1]


def without_cache(model: Any) -> dict[str, bool]:
    """The option that keeps a decoder from keeping its keys and values; encoders have none, and some refuse it."""
    return {"use_cache": False} if getattr(model.config.get_text_config(), "is_decoder", False) else {}


def with_head(handle: ModelHandle, head: str, seed: int) -> ModelHandle:
    """The same base model under another head, whose weights are drawn by `seed`; the base's are shared.

    Raises:
        RecipeError: Transformers has no such class for this model.
    """
    old = handle.model
    if handle.head == head and own_labels(old.config) == handle.labels:
        return handle
    pooling = getattr(old.config, KEY) if type(old).__name__.startswith(PREFIX) and head == "sequence-labels" else None
    config = head_config(old.config, head, handle.labels, pooling)
    try:
        with torch.device("meta"):  # nothing of the new model is kept but its head
            kind = class_of(head, config, pooling)
            new = kind(config) if pooling else kind.from_config(config)
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
        if head == "scalar":
            draw_scalar(new)
    new.train(old.training)
    return replace(handle, model=new, head=head, drawn=tuple(head_modules(new)))


def class_of(head: str, config: Any, pooling: Pooling | None) -> Any:
    """Transformers' class for a head, or one of ours where texts are summed up in another way than its own."""
    import transformers

    return pooled_class(config) if pooling else getattr(transformers, HEADS[head])


def head_config(config: Any, head: str, labels: Labels | None, pooling: Pooling | None) -> Any:
    """A model's configuration for a head, changed in place: its outputs, their names, what sums up a text.

    Raises:
        PluginError: the head is one for labels, and none are given.
    """
    if head == "scalar":
        config.num_labels = 1
    if head in LABEL_HEADS:
        if labels is None:
            raise PluginError(
                f"a {head!r} head needs labels, and the rows have none",
                fix="This is a defect of the trainer: it must accept rows with labels only.",
            )
        config.id2label = dict(enumerate(labels.names))
        config.label2id = labels.index
        several = "multi_label_classification" if labels.several else "single_label_classification"
        config.problem_type = several if head == "sequence-labels" else None
    if pooling:
        setattr(config, KEY, pooling)
    return config


def own_labels(config: Any) -> Labels | None:
    """The labels that a configuration names; None where it has Transformers' stand-ins."""
    named = {int(place): str(name) for place, name in (getattr(config, "id2label", None) or {}).items()}
    if not named or named == {place: f"LABEL_{place}" for place in named}:
        return None
    several = getattr(config, "problem_type", None) == "multi_label_classification"
    return Labels(tuple(named[place] for place in sorted(named)), several)


def draw_scalar(model: Any) -> None:
    """Draw the weights of a scalar head anew: normal with variance 1 / (d + 1) for d inputs, and no bias.

    Huang et al. 2024 (arXiv:2403.17031), detail 11: scores of a hidden state that is normalized then have variance 1.
    """
    head = last_head(model)
    with torch.no_grad():
        for name, parameter in head.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
            else:
                parameter.normal_(std=(parameter.shape[-1] + 1) ** -0.5)


def head_lacks(model: Any, missing: Iterable[str]) -> bool:
    """Whether the files that a model was read from have nothing of its head."""
    lacking = set(missing)
    modules = head_modules(model).items()
    return all(f"{name}.{inner}" in lacking for name, module in modules for inner, _ in module.named_parameters())


def redraw_head(model: Any, missing: Iterable[str]) -> bool:
    """Draw a head anew that was read from files and is for other labels; whether there was one."""
    if head_lacks(model, missing):
        return False
    for module in head_modules(model).values():
        for part in module.modules():
            part.apply(model._init_weights)
    return True


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
