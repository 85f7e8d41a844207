"""Choose which of the model's own parameters move."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from tunesmith import Context, ModelHandle, ModuleAdapted, RecipeError
from tunesmith.adapted import Adapted, SavedAdapter
from tunesmith_full import FullSettings, HeadSettings, LastLayersSettings, RegexSettings
from tunesmith_full.combine import combine


class Part(ModuleAdapted):
    """A part of the model that moves; there is nothing to merge, the weights are the model's own."""

    def merge(self) -> Any:
        return self.model

    def combine(
        self, parts: Sequence[SavedAdapter], how: str | None, options: Mapping[str, Any], folder: Path
    ) -> dict[str, Any]:
        return combine(self, parts, how, options, folder)


class Everything(Adapted):
    """The whole model moves; saved as an ordinary model folder.

    Args:
        keep_base: hold a copy of the initial weights, which `disabled` needs.
    """

    def __init__(self, handle: ModelHandle, keep_base: bool) -> None:
        super().__init__(handle)
        self._base = Part(handle) if keep_base else None

    def save(self, folder: Path) -> None:
        """Write config, safetensors and tokenizer, as `from_pretrained` reads them."""
        self.model.save_pretrained(str(folder))
        self.handle.tokenizer.save_pretrained(str(folder))

    def load(self, folder: Path) -> None:
        """Read the weights that `save` wrote.

        Raises:
            DataError: a tensor is missing or of another shape.
        """
        from safetensors.torch import load_file

        tensors: dict[str, Any] = {}
        for path in sorted(folder.glob("model*.safetensors")):
            tensors.update(load_file(str(path)))
        self.load_state(tensors)

    def merge(self) -> Any:
        return self.model

    def combine(
        self, parts: Sequence[SavedAdapter], how: str | None, options: Mapping[str, Any], folder: Path
    ) -> dict[str, Any]:
        return combine(self, parts, how, options, folder)

    @contextmanager
    def disabled(self) -> Iterator[Any]:
        if self._base is None:
            raise RecipeError(
                "full training keeps no copy of the base model, which this trainer needs as its reference",
                fix="Set keep_base = true in [adapter], or name a reference model of its own.",
            )
        with self._base.disabled() as model:
            yield model


def full(handle: ModelHandle, settings: FullSettings, context: Context) -> Everything:
    """Every parameter moves.

    Raises:
        RecipeError: the base is quantized.
    """
    handle.must_be_dense("the adapter full")
    _move(handle.model, [name for name, _ in handle.model.named_parameters()])
    return Everything(handle, settings.keep_base)


def head(handle: ModelHandle, settings: HeadSettings, context: Context) -> Part:
    """Only the output head moves; with tied embeddings these are the head.

    Raises:
        RecipeError: there is none, or it is quantized.
    """
    names = head_names(handle.model)
    handle.must_be_dense("the adapter head", names)
    _move(handle.model, names)
    return Part(handle)


def last_layers(handle: ModelHandle, settings: LastLayersSettings, context: Context) -> Part:
    """The last blocks move.

    Raises:
        RecipeError: the model has fewer blocks, or the base is quantized.
    """
    names = last_names(handle.model, settings)
    handle.must_be_dense("the adapter last-layers", names)
    _move(handle.model, names)
    return Part(handle)


def regex(handle: ModelHandle, settings: RegexSettings, context: Context) -> Part:
    """The matching parameters move.

    Raises:
        RecipeError: nothing matches, or a match is quantized.
    """
    names = matching_names(handle.model, settings)
    handle.must_be_dense(f"training what pattern = {settings.pattern!r} matches", names)
    _move(handle.model, names)
    return Part(handle)


# --- names --------------------------------------------------------------------------------------
def head_names(model: Any) -> list[str]:
    """Names of the output head's parameters: the module Transformers says it is, or `score`, `classifier`."""
    output = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    heads = (
        [output]
        if output is not None
        else [module for name, module in model.named_modules() if name.rpartition(".")[2] in ("score", "classifier")]
    )
    wanted = {id(parameter) for module in heads for parameter in module.parameters()}
    names = [name for name, parameter in model.named_parameters() if id(parameter) in wanted]
    if not names:
        raise RecipeError("the model has no output head", fix='Use "regex" with a pattern, or another adapter.')
    return names


def last_names(model: Any, settings: LastLayersSettings) -> list[str]:
    """Names of the parameters in the last blocks, with the final norm and head if wanted."""
    name, blocks = _blocks(model)
    if settings.layers > len(blocks):
        raise RecipeError(
            f"layers = {settings.layers}, but the model has {len(blocks)} blocks",
            fix=f"Set layers = {len(blocks)} or less in [adapter].",
        )
    chosen = tuple(f"{name}.{index}." for index in range(len(blocks) - settings.layers, len(blocks)))
    names = [n for n, _ in model.named_parameters() if n.startswith(chosen)]
    if settings.head:
        parent = name.rpartition(".")[0]
        following = _after(model, parent, name)
        names += [n for n, _ in model.named_parameters() if n.startswith(following)] if following else []
        names += [n for n in head_names(model) if n not in names]
    return names


def matching_names(model: Any, settings: RegexSettings) -> list[str]:
    """Names that match the pattern."""
    names = [name for name, _ in model.named_parameters()]
    found = [name for name in names if re.search(settings.pattern, name)]
    if not found:
        raise RecipeError(
            f"no parameter matches pattern = {settings.pattern!r}",
            details=[f"for example: {', '.join(names[:5])}"],
            fix="Mend `pattern` in [adapter].",
        )
    return found


# --- formulas -------------------------------------------------------------------------------------
def full_parameters(model: Any, settings: FullSettings) -> int:
    """All parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def head_parameters(model: Any, settings: HeadSettings) -> int:
    """vocabulary x hidden, or labels x hidden, and the bias if there is one."""
    return _count(model, head_names(model))


def last_layers_parameters(model: Any, settings: LastLayersSettings) -> int:
    """The parameters of the chosen blocks, norm and head."""
    return _count(model, last_names(model, settings))


def regex_parameters(model: Any, settings: RegexSettings) -> int:
    """The parameters that match."""
    return _count(model, matching_names(model, settings))


# --- helpers --------------------------------------------------------------------------------------
def _count(model: Any, names: list[str]) -> int:
    return sum(parameter.numel() for name, parameter in model.named_parameters() if name in set(names))


def _move(model: Any, names: list[str]) -> None:
    wanted = set(names)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in wanted)


def _blocks(model: Any) -> tuple[str, nn.ModuleList]:
    """The model's stack of blocks: the longest list of modules."""
    lists = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.ModuleList)]
    if not lists:
        raise RecipeError("the model has no stack of blocks", fix='Use "regex" with a pattern.')
    return max(lists, key=lambda item: len(item[1]))


def _after(model: Any, parent: str, blocks: str) -> tuple[str, ...]:
    """Prefixes of the modules that come after the stack of blocks in its parent: the final norm."""
    children = [name for name, _ in model.get_submodule(parent).named_children()]
    position = children.index(blocks.rpartition(".")[2])
    return tuple(f"{parent}.{name}." if parent else f"{name}." for name in children[position + 1 :])
