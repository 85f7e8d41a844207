"""Put bottlenecks into a model, keep them, switch them off, and count them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tunesmith import Adapted, Context, DataError, ModelHandle, RecipeError, TunesmithError
from tunesmith.adapted import SavedAdapter
from tunesmith_bottleneck import HoulsbySettings, PfeifferSettings
from tunesmith_bottleneck.layers import CHILD, Behind, Bottleneck, NormGain
from tunesmith_bottleneck.places import Place, find_heads, find_norms, find_places

CONFIG = "bottleneck_config.json"
Bottlenecks = HoulsbySettings | PfeifferSettings


class BottleneckAdapted(Adapted):
    """A frozen model with bottlenecks inside.

    Args:
        described: what `bottleneck_config.json` says; an artifact that says otherwise is not loaded.
        behind: the bottlenecks and gains that are attached to the model.
        heads: classification heads; they are trained as copies, and the handle's own come back when disabled.
    """

    def __init__(
        self, handle: ModelHandle, described: dict[str, Any], behind: list[Behind], heads: list[nn.Module]
    ) -> None:
        super().__init__(handle)
        self.described = described
        self.behind = behind
        self.heads = [
            (module, name, parameter)
            for head in heads
            for module in head.modules()
            for name, parameter in module.named_parameters(recurse=False)
        ]
        for module, name, parameter in self.heads:
            setattr(module, name, nn.Parameter(parameter.detach().clone()))

    def save(self, folder: Path) -> None:
        """Write `adapter.safetensors` and `bottleneck_config.json`."""
        super().save(folder)
        text = json.dumps({**self.described, "base": self.handle.source}, indent=2, ensure_ascii=False)
        (folder / CONFIG).write_text(text + "\n", encoding="utf-8")

    def load(self, folder: Path) -> None:
        """Read what `save` wrote; every tensor must be there, and no other.

        Raises:
            DataError: a file is missing or damaged, or was made with other settings or for another model.
        """
        path = folder / CONFIG
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            differing = [key for key, value in self.described.items() if found.get(key) != value]
        except (OSError, ValueError, AttributeError) as error:
            raise DataError(
                f"the description of the adapter at {path} cannot be read: {error}",
                fix="Give the artifact folder of a finished run of houlsby or pfeiffer.",
            ) from error
        if differing:
            raise DataError(
                f"the adapter in {folder} does not fit: {', '.join(differing)} differ",
                details=[f"{key}: saved {found.get(key)}, here {self.described[key]}" for key in differing],
                fix="Use the base model and the adapter settings that it was made with.",
            )
        super().load(folder)

    def merge(self) -> Any:
        """Refused.

        Raises:
            TunesmithError: always; a bottleneck is no linear function.
        """
        raise TunesmithError(
            f"{self.described['method']} cannot be merged: its bottlenecks are not linear, so no weights of the base "
            "compute what they do",
            fix="Keep the adapter beside its base, or train lora where one plain model is needed.",
        )

    def combine(
        self, parts: Sequence[SavedAdapter], how: str | None, options: Mapping[str, Any], folder: Path
    ) -> dict[str, Any]:
        """Refused.

        Raises:
            TunesmithError: always; a bottleneck is no linear function of its weights.
        """
        raise TunesmithError(
            f"{self.described['method']} adapters cannot be combined: a bottleneck is not linear in its weights, so a "
            "weighted sum of two is not the weighted sum of what they do",
            fix="Keep the adapters apart, or train lora where a combination is needed.",
        )

    @contextmanager
    def disabled(self) -> Iterator[Any]:
        """The base model to the bit: its layers run alone."""
        active = [module.active for module in self.behind]
        trained = [getattr(module, name) for module, name, _ in self.heads]
        for module in self.behind:
            module.active = False
        for owner, name, parameter in self.heads:
            setattr(owner, name, parameter)
        try:
            yield self.model
        finally:
            for module, was in zip(self.behind, active, strict=True):
                module.active = was
            for (owner, name, _), parameter in zip(self.heads, trained, strict=True):
                setattr(owner, name, parameter)


def houlsby(handle: ModelHandle, settings: HoulsbySettings, context: Context) -> BottleneckAdapted:
    """Bottlenecks behind attention and feed-forward of each block.

    Raises:
        RecipeError: the model has no such places, or the bottleneck is wider than the model.
    """
    return _adapt("houlsby", handle, find_places(handle.model), settings, context)


def pfeiffer(handle: ModelHandle, settings: PfeifferSettings, context: Context) -> BottleneckAdapted:
    """A bottleneck behind the feed-forward of each block.

    Raises:
        RecipeError: the model has no such places, or the bottleneck is wider than the model.
    """
    return _adapt("pfeiffer", handle, _feed_forward(handle.model), settings, context)


def houlsby_parameters(model: Any, settings: HoulsbySettings) -> int:
    """2 x hidden x bottleneck + bottleneck + hidden for two places a block, and the norms' own number."""
    return _count(model, find_places(model), settings)


def pfeiffer_parameters(model: Any, settings: PfeifferSettings) -> int:
    """2 x hidden x bottleneck + bottleneck + hidden for one place a block, and the norms' own number if trained."""
    return _count(model, _feed_forward(model), settings)


# --- helpers --------------------------------------------------------------------------------------
def _feed_forward(model: Any) -> list[Place]:
    return [place for place in find_places(model) if place.part == "feed-forward"]


def _adapt(
    method: str, handle: ModelHandle, places: list[Place], settings: Bottlenecks, context: Context
) -> BottleneckAdapted:
    model = handle.model
    taken = [name for name, _ in model.named_modules() if name.rpartition(".")[2] == CHILD]
    if taken:
        raise RecipeError(
            f"the model holds bottlenecks already, such as {taken[0]}",
            fix="Load the base afresh, or continue the adapter that is there.",
        )
    sizes = [_size(place, settings) for place in places]
    norms = find_norms(model, places) if settings.layer_norms else {}
    model.requires_grad_(False)
    generator = torch.Generator().manual_seed(context.seed)
    behind: list[Behind] = []
    for place, size in zip(places, sizes, strict=True):
        bottleneck = Bottleneck(
            place.width,
            size,
            activation=settings.activation,
            dropout=settings.dropout,
            scale=settings.scale,
            init_std=settings.init_std,
            like=next(place.layer.parameters()),
            generator=generator,
        )
        bottleneck.train(model.training)
        bottleneck.attach(place.layer)
        behind.append(bottleneck)
    for norm in norms.values():
        gain = NormGain(norm)
        gain.attach(norm)
        behind.append(gain)
    also = f", and {len(norms)} layer norms" if norms else ""
    context.reporter.say(
        f"{method}: {len(places)} bottlenecks of {' or '.join(map(str, sorted(set(sizes))))} units "
        f"behind {places[0].name} ... {places[-1].name}{also}"
    )
    described = {
        "method": method,
        "activation": settings.activation,
        "scale": settings.scale,
        "places": {place.name: [place.width, size] for place, size in zip(places, sizes, strict=True)},
        "layer_norms": list(norms),
    }
    return BottleneckAdapted(handle, described, behind, list(find_heads(model).values()))


def _size(place: Place, settings: Bottlenecks) -> int:
    """Units of the bottleneck at a place.

    Raises:
        RecipeError: none would be left, or it would be wider than what it narrows.
    """
    size = int(place.width / settings.reduction_factor) if settings.bottleneck is None else settings.bottleneck
    if size < 1:
        raise RecipeError(
            f"reduction_factor = {settings.reduction_factor:g} leaves nothing of {place.name}'s {place.width} units",
            fix=f"Set reduction_factor = {place.width} or less in [adapter], or set bottleneck.",
        )
    if size > place.width:
        raise RecipeError(
            f"bottleneck = {size} is over the hidden size of {place.name}, which has {place.width} units",
            fix=f"Set bottleneck = {place.width} or less in [adapter]; a sixteenth of the hidden size is usual.",
        )
    return size


def _count(model: Any, places: list[Place], settings: Bottlenecks) -> int:
    total = 0
    for place in places:
        size = _size(place, settings)
        total += 2 * place.width * size + size + place.width
    parts = list(find_heads(model).values())
    parts += find_norms(model, places).values() if settings.layer_norms else []
    return total + sum(p.numel() for part in parts for p in part.parameters())
