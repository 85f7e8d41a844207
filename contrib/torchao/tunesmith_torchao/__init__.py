"""Weights in 4 and 8 bits, and quantization-aware training, on torchao."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from tunesmith import Adapter, Gt, Quantizer, Settings, hookimpl

#: Weights along a row that share a scale.
GroupSize = Literal[16, 32, 64, 128, 256]


@dataclass(frozen=True, kw_only=True)
class Int4Settings(Settings):
    """4-bit integers, one scale and zero point a group."""

    group_size: GroupSize = 64
    """Weights along a row that share a scale and a zero point; must divide the inputs of every layer."""
    skip_modules: tuple[str, ...] = ()
    """Linear layers that stay dense: last parts of names, or full names with `*`; heads always do."""


@dataclass(frozen=True, kw_only=True)
class Int8Settings(Settings):
    """8-bit integers, one scale a row or a group."""

    group_size: GroupSize | None = None
    """Weights along a row that share a scale; unset: the whole row."""
    skip_modules: tuple[str, ...] = ()
    """Linear layers that stay dense: last parts of names, or full names with `*`; heads always do."""


@dataclass(frozen=True, kw_only=True)
class QatSettings(Int4Settings):
    """Train what `torchao-int4` will make of the weights."""

    rank: Annotated[int, Gt(0)] | None = None
    """Rank of a low-rank update inside the quantizer, the base frozen; unset: every weight is trained."""
    alpha: Annotated[float, Gt(0)] | None = None
    """With a rank: the update is scaled by alpha / rank; unset: twice the rank."""


#: Settings that the conformance kit tries.
tunesmith_examples = {
    "qat": [
        {"group_size": 16},
        {"group_size": 32, "rank": 4, "skip_modules": ["*.layers.0.*"]},
        {"group_size": 32, "rank": 2, "alpha": 8},
    ]
}


@hookimpl
def tunesmith_quantizers() -> Iterator[Quantizer]:
    """`torchao-int4` and `torchao-int8`."""
    needs = ("torch", "torchao")
    yield Quantizer(
        name="torchao-int4",
        summary="4-bit integer weights in groups, on torchao; adapters train over them",
        factory="tunesmith_torchao.quantizer:int4",
        settings=Int4Settings,
        requires=needs,
    )
    yield Quantizer(
        name="torchao-int8",
        summary="8-bit integer weights by row or group, on torchao; adapters train over them",
        factory="tunesmith_torchao.quantizer:int8",
        settings=Int8Settings,
        requires=needs,
    )


@hookimpl
def tunesmith_adapters() -> Iterator[Adapter]:
    """Quantization-aware training."""
    yield Adapter(
        name="qat",
        summary="Quantization-aware training: the loss is that of the weights in int4; full or low-rank",
        factory="tunesmith_torchao.qat:apply",
        settings=QatSettings,
        requires=("torch", "torchao", "tunesmith_full", "tunesmith_transformers"),
        check="tunesmith_torchao.check:qat",
        identity=False,
        formula="tunesmith_torchao.qat:parameters",
    )
