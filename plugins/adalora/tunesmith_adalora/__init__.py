"""Adaptive low-rank adaptation (Zhang et al. 2023, arXiv 2303.10512), on PEFT."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from tunesmith import Adapter, Ge, Gt, Interval, Settings, hookimpl


@dataclass(frozen=True, kw_only=True)
class AdaloraSettings(Settings):
    """W x + scale B diag(E) A x; the least important triplets of E, A and B are cut while training."""

    target_rank: Annotated[int, Gt(0)] = 8
    """Mean rank of a layer at the end; important layers end above it, others below."""
    init_rank: Annotated[int, Gt(1)] = 12
    """Rank of each layer at the start, over target_rank; the paper takes 1.5 times target_rank."""
    tinit: Annotated[float, Ge(0)] = 0.1
    """Steps before the budget begins to fall: below 1 a share of all steps, otherwise a number of steps."""
    tfinal: Annotated[float, Ge(0)] = 0.3
    """Steps at the end with the final ranks: below 1 a share of all steps, otherwise a number of steps."""
    deltaT: Annotated[int, Gt(0)] = 1  # noqa: N815 - PEFT's name
    """Steps between two allocations."""
    beta1: Annotated[float, Interval(gt=0, lt=1)] = 0.85
    """Smoothing of the importance of each weight, |weight x gradient|, over steps."""
    beta2: Annotated[float, Interval(gt=0, lt=1)] = 0.85
    """Smoothing of the uncertainty of that importance over steps."""
    orth_reg_weight: Annotated[float, Ge(0)] = 0.5
    """Weight of the term that keeps A and B orthogonal, added to the loss of training."""
    alpha: Annotated[float, Gt(0)] = 32
    """The update is scaled by alpha / init_rank."""
    dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    """Share of the adapter's inputs that is zeroed while training."""
    target_modules: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """Linear layers to adapt, by the last part of their name; all-linear is all but the output head."""


#: Settings that the conformance kit tries.
tunesmith_examples = {
    "adalora": [
        {"target_rank": 2, "init_rank": 4},
        {"target_rank": 1, "init_rank": 3, "target_modules": ["q_proj", "v_proj"], "deltaT": 2, "tinit": 2},
    ]
}


@hookimpl
def tunesmith_adapters() -> Iterator[Adapter]:
    """The adapter `adalora`."""
    yield Adapter(
        name="adalora",
        summary="Low-rank updates whose ranks move to the layers that need them",
        factory="tunesmith_adalora.adapter:apply",
        settings=AdaloraSettings,
        requires=("torch", "peft", "tunesmith_transformers"),
        formula="tunesmith_adalora.adapter:parameters",
        check="tunesmith_adalora.check:told",
        fits="tunesmith_adalora.check:fits",
        trains_own="tunesmith_transformers.peft.fitting:trains_head",
    )
