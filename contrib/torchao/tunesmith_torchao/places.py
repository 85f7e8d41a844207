"""Which linear layers are quantized: those of the model's body, the heads and what is named stay dense."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from tunesmith import ModelHandle, RecipeError


def dense_layers(handle: ModelHandle, skip: tuple[str, ...], group: int | None, where: str) -> dict[str, nn.Linear]:
    """The linear layers to quantize, by full name.

    Args:
        skip: layers to leave out: last parts of names, or full names with `*` and `?`.
        group: weights along a row that share a scale; None for a whole row.
        where: the recipe's table, for messages.

    Raises:
        RecipeError: the base is quantized already, there is nothing to quantize, a name in `skip` matches nothing,
            or the group does not divide a layer's inputs.
    """
    _check_dense(handle, where)
    model = handle.model
    found = {name: module for name, module in _body(model).items() if type(module) is nn.Linear}
    if not found:
        raise RecipeError(
            f"{type(model).__name__} has no linear layers to quantize",
            fix=f"Leave out [{where}], or take a model whose layers are torch's nn.Linear.",
        )
    for wanted in skip:
        matching = [n for n in found if f".{n}".endswith(f".{wanted}") or fnmatchcase(n, wanted)]
        if not matching:
            last = sorted({name.rpartition(".")[2] for name in found})
            raise RecipeError(
                f"skip_modules in [{where}] names {wanted!r}, which is no linear layer that is left to quantize",
                details=[f"linear layers: {', '.join(last) or 'none are left'}"],
                fix=f"Mend skip_modules in [{where}].",
            )
        for name in matching:
            del found[name]
    if not found:
        raise RecipeError(
            f"skip_modules in [{where}] leaves no linear layer to quantize", fix="Name fewer layers there."
        )
    for name, layer in found.items():
        if group and layer.in_features % group:
            fitting = [size for size in (16, 32, 64, 128, 256) if not layer.in_features % size]
            instead = f"Set group_size = {max(fitting)}" if fitting else "No group size fits it"
            raise RecipeError(
                f"group_size = {group} does not divide the {layer.in_features} inputs of {name}",
                fix=f'{instead}, or add "{name.rpartition(".")[2]}" to skip_modules in [{where}].',
            )
    return found


def _body(model: Any) -> dict[str, nn.Module]:
    """The modules of the model without its head: a language model's is often tied, a classifier's is trained."""
    body = getattr(model, "base_model", model)
    inside = {id(module) for module in body.modules()}
    head = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    return {name: m for name, m in model.named_modules() if id(m) in inside and m is not head}


def _check_dense(handle: ModelHandle, where: str) -> None:
    by = handle.quantized
    if not by:
        # a quantized weight is of the library's own class, or holds integers
        odd = [
            n for n, p in handle.model.named_parameters() if type(p) is not nn.Parameter or not p.is_floating_point()
        ]
        by = f"{odd[0]} is a {type(handle.model.get_parameter(odd[0])).__name__}" if odd else None
    if by:
        raise RecipeError(
            f"the base is quantized already ({by}), and [{where}] needs its dense weights",
            fix="Leave out [quantizer], or give the dense weights as [model] source.",
        )
