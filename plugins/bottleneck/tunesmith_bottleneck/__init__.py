"""Adapter layers: Houlsby et al. 2019, arXiv 1902.00751; Pfeiffer et al. 2020, arXiv 2005.00247."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from tunesmith import Adapter, Ge, Gt, Interval, Settings, hookimpl

Activation = Literal["relu", "gelu", "silu", "tanh"]


@dataclass(frozen=True, kw_only=True)
class BottleneckSettings(Settings):
    """h + scale up(activation(down(h))) behind a sub-layer; the up-projection starts at zero."""

    bottleneck: Annotated[int, Gt(0)] | None = None
    """Units of the bottleneck; unset: the hidden size divided by `reduction_factor`."""
    reduction_factor: Annotated[float, Ge(1)] = 16
    """How many times narrower than the hidden size the bottleneck is; not used when `bottleneck` is set."""
    dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    """Share of the bottleneck's units that is zeroed while training."""
    scale: Annotated[float, Gt(0)] = 1.0
    """Factor on what the bottleneck adds."""
    init_std: Annotated[float, Gt(0)] = 0.01
    """Standard deviation of the down-projection at the start, a normal cut off at two of them; the rest is zero."""


@dataclass(frozen=True, kw_only=True)
class HoulsbySettings(BottleneckSettings):
    """Two bottlenecks a block: behind the attention's output projection, and behind the feed-forward's."""

    activation: Activation = "gelu"
    """The non-linear function between the projections."""
    layer_norms: bool = True
    """Whether the layer norms are trained too, as in the paper."""


@dataclass(frozen=True, kw_only=True)
class PfeifferSettings(BottleneckSettings):
    """One bottleneck a block: behind the feed-forward's output projection."""

    activation: Activation = "relu"
    """The non-linear function between the projections."""
    layer_norms: bool = False
    """Whether the layer norms are trained too; in the paper they stay."""


_TRIED = [{"bottleneck": 8}, {"reduction_factor": 4, "activation": "silu", "dropout": 0.1, "scale": 2.0}]

#: Settings that the conformance kit tries.
tunesmith_examples = {
    "houlsby": [*_TRIED, {"bottleneck": 4, "layer_norms": False}],
    "pfeiffer": [*_TRIED, {"bottleneck": 4, "layer_norms": True}],
}


@hookimpl
def tunesmith_adapters() -> Iterator[Adapter]:
    """The adapters `houlsby` and `pfeiffer`."""
    needs = ("torch", "safetensors")
    yield Adapter(
        name="houlsby",
        summary="Adapter layers: two bottlenecks a block, and the layer norms",
        factory="tunesmith_bottleneck.adapter:houlsby",
        settings=HoulsbySettings,
        requires=needs,
        merges=False,
        formula="tunesmith_bottleneck.adapter:houlsby_parameters",
        check="tunesmith_bottleneck.check:houlsby",
    )
    yield Adapter(
        name="pfeiffer",
        summary="Adapter layers: one bottleneck a block, behind the feed-forward",
        factory="tunesmith_bottleneck.adapter:pfeiffer",
        settings=PfeifferSettings,
        requires=needs,
        merges=False,
        formula="tunesmith_bottleneck.adapter:pfeiffer_parameters",
        check="tunesmith_bottleneck.check:pfeiffer",
    )
