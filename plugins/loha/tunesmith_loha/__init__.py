"""Updates as Hadamard and Kronecker products of low-rank matrices, on PEFT.

LoHa: FedPara, Hyeon-Woo et al. 2021, arXiv 2108.06098. LoKr: Edalati et al. 2022, arXiv 2212.10650. Both as in
LyCORIS, Yeh et al. 2023, arXiv 2309.14859.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from tunesmith import Adapter, Gt, Interval, Settings, hookimpl


@dataclass(frozen=True, kw_only=True)
class LohaSettings(Settings):
    """W x + scale (A1 B1 * A2 B2) x, with * elementwise; its rank reaches rank squared."""

    rank: Annotated[int, Gt(0)] = 8
    """Rank r of each of the two products."""
    alpha: Annotated[float, Gt(0)] = 16
    """The update is scaled by alpha / rank."""
    rank_dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    """Share of the update's rows (outputs) that is zeroed while training."""
    module_dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    """Share of the forward passes in which a layer goes without its update while training."""
    target_modules: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """Linear layers to adapt, by the last part of their name; all-linear is all but the output head."""


@dataclass(frozen=True, kw_only=True)
class LokrSettings(LohaSettings):
    """W x + scale (C kron D) x, with D a product of rank r where that is smaller than D itself."""

    rank: Annotated[int, Gt(0)] = 8
    """Rank r of the larger factor D; where r is at least half of D's larger side, D is a full matrix."""
    decompose_both: bool = False
    """Make the smaller factor C a product of rank r too."""
    decompose_factor: Annotated[int, Gt(0)] | None = None
    """Sides of C: this, or the next smaller divisor of a layer's sides; unset: near their square roots."""


#: Settings that the conformance kit tries.
tunesmith_examples = {
    "loha": [{"rank": 2}, {"rank": 3, "target_modules": ["q_proj", "v_proj"], "rank_dropout": 0.1}],
    "lokr": [
        {"rank": 2},
        {"rank": 1, "decompose_both": True, "target_modules": ["q_proj", "down_proj"]},
        {"rank": 2, "decompose_factor": 4, "rank_dropout": 0.1},
    ],
}


@hookimpl
def tunesmith_adapters() -> Iterator[Adapter]:
    """The adapters `loha` and `lokr`."""
    needs = ("torch", "peft", "tunesmith_transformers")
    yield Adapter(
        name="loha",
        summary="Updates of high rank: elementwise products of low-rank matrices",
        factory="tunesmith_loha.adapters:loha",
        settings=LohaSettings,
        requires=needs,
        formula="tunesmith_loha.adapters:loha_parameters",
        check="tunesmith_loha.check:loha",
        fits="tunesmith_loha.check:fits",
        trains_own="tunesmith_transformers.peft.fitting:trains_head",
    )
    yield Adapter(
        name="lokr",
        summary="Very small updates: Kronecker products of small matrices",
        factory="tunesmith_loha.adapters:lokr",
        settings=LokrSettings,
        requires=needs,
        formula="tunesmith_loha.adapters:lokr_parameters",
        check="tunesmith_loha.check:lokr",
        fits="tunesmith_loha.check:fits",
        trains_own="tunesmith_transformers.peft.fitting:trains_head",
    )
