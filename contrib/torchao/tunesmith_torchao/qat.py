"""Quantization-aware training: the loss is that of the int4 model, while dense weights or a low-rank update move."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from tunesmith import Adapted, Context, ModelHandle, RecipeError
from tunesmith_full import FullSettings
from tunesmith_full.adapters import Everything
from tunesmith_full.adapters import full as train_everything
from tunesmith_torchao import QatSettings
from tunesmith_torchao.layers import FakeQuantizedLinear, replace
from tunesmith_torchao.places import dense_layers
from tunesmith_transformers.loading.heads import head_modules


class LowRank(Adapted):
    """A frozen base whose layers compute with the int4 values of W + scale B A; a new head moves as it is."""

    def __init__(self, handle: ModelHandle) -> None:
        super().__init__(handle)
        heads = [p for module in head_modules(handle.model).values() for p in module.parameters()]
        self._heads = [(parameter, parameter.detach().clone()) for parameter in heads]

    def merge(self) -> Any:
        """The plain model whose layers hold their int4 values; `torchao-int4` gives the same model again."""
        return _plain(self.model)

    @contextmanager
    def disabled(self) -> Iterator[Any]:
        """The dense base model to the bit, under its head as it was."""
        layers = list(_layers(self.model).values())
        trained = [(parameter, parameter.detach().clone()) for parameter, _ in self._heads]
        for layer in layers:
            layer.active = False
        _put(self._heads)
        try:
            yield self.model
        finally:
            for layer in layers:
                layer.active = True
            _put(trained)


class Whole(Everything):
    """Every parameter of the model moves; its layers compute with the int4 values of their weights.

    The artifact is an ordinary model folder with the dense weights; `torchao-int4` with the same group size and
    skip_modules makes of it exactly the model that was trained.
    """

    def merge(self) -> Any:
        """The plain model whose layers hold their int4 values; `torchao-int4` gives the same model again."""
        return _plain(self.model)

    @contextmanager
    def disabled(self) -> Iterator[Any]:
        """Refused.

        Raises:
            RecipeError: always; the base weights themselves have moved.
        """
        raise RecipeError(
            "qat without a rank trains the weights themselves and keeps no copy of the base model",
            fix="Set rank in [adapter], or name a reference model of its own.",
        )
        yield


def apply(handle: ModelHandle, settings: QatSettings, context: Context) -> Adapted:
    """Put fake-quantized layers in place of the linear ones of the model's body.

    Raises:
        RecipeError: the base is quantized, has no linear layers, or the settings do not fit it.
    """
    layers = dense_layers(handle, settings.skip_modules, settings.group_size, "adapter")
    rank = settings.rank
    for name, layer in layers.items():
        if rank and rank > min(layer.in_features, layer.out_features):
            raise RecipeError(
                f"rank = {rank} is over the size of {name} ({layer.in_features} x {layer.out_features})",
                fix=f"Set rank = {min(layer.in_features, layer.out_features)} or less in [adapter].",
            )
    generator = torch.Generator().manual_seed(context.seed)
    alpha = settings.alpha if settings.alpha is not None else 2.0 * (rank or 0)
    for name, layer in layers.items():
        replace(handle.model, name, FakeQuantizedLinear(layer, settings.group_size, rank, alpha, generator))
    how = f"a rank-{rank} update inside" if rank else "every weight trained"
    context.reporter.say(f"qat: int4 in groups of {settings.group_size} on {len(layers)} linear layers, {how}")
    if rank:
        for module in head_modules(handle.model).values():  # put there by the role, with random weights
            module.requires_grad_(True)
        return LowRank(handle)
    train_everything(handle, FullSettings(), context)
    return Whole(handle, keep_base=False)


def parameters(model: Any, settings: QatSettings) -> int:
    """All parameters, or with a rank r: r (in + out) for each quantized layer, and a new head's own."""
    if not settings.rank:
        return sum(parameter.numel() for parameter in model.parameters())
    handle = ModelHandle(model=model, tokenizer=None, source="", digest="")
    layers = dense_layers(handle, settings.skip_modules, settings.group_size, "adapter")
    low_rank = sum(settings.rank * (layer.in_features + layer.out_features) for layer in layers.values())
    return low_rank + sum(p.numel() for head in head_modules(model).values() for p in head.parameters())


def _layers(model: Any) -> dict[str, FakeQuantizedLinear]:
    return {name: module for name, module in model.named_modules() if isinstance(module, FakeQuantizedLinear)}


def _put(values: Sequence[tuple[Any, Any]]) -> None:
    for parameter, value in values:
        parameter.data.copy_(value)


def _plain(model: Any) -> Any:
    for name, layer in _layers(model).items():
        replace(model, name, layer.plain())
    return model
