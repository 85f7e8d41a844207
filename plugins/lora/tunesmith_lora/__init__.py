"""Low-rank adaptation (Hu et al. 2021, arXiv 2106.09685), on PEFT."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from tunesmith import Adapter, Gt, Interval, Settings, hookimpl


@dataclass(frozen=True, kw_only=True)
class LoraSettings(Settings):
    """W x + scale B A x with A (rank x in) and B (out x rank); B starts at zero."""

    rank: Annotated[int, Gt(0)] = 16
    """Rank r of the update of each layer."""
    alpha: Annotated[float, Gt(0)] = 32
    """The update is scaled by alpha / rank (or alpha / sqrt(rank) with use_rslora)."""
    dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    """Share of the adapter's inputs that is zeroed while training."""
    target_modules: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """Linear layers to adapt, by the last part of their name; all-linear is all but the output head."""
    use_rslora: bool = False
    """Scale by alpha / sqrt(rank), which keeps large ranks stable (Kalajdzievski 2023, arXiv 2312.03732)."""
    use_dora: bool = False
    """Learn magnitude and direction apart (DoRA: Liu et al. 2024, arXiv 2402.09353)."""


#: Settings that the conformance kit tries.
tunesmith_examples = {
    "lora": [
        {"rank": 4},
        {"rank": 2, "target_modules": ["q_proj", "v_proj"], "alpha": 4},
        {"rank": 4, "use_rslora": True},
        {"rank": 4, "use_dora": True},
    ]
}


@hookimpl
def tunesmith_adapters() -> Iterator[Adapter]:
    """The adapter `lora`."""
    yield Adapter(
        name="lora",
        summary="Low-rank updates of linear layers; rsLoRA and DoRA as settings",
        factory="tunesmith_lora.adapter:apply",
        settings=LoraSettings,
        requires=("torch", "peft", "tunesmith_transformers"),
        formula="tunesmith_lora.adapter:parameters",
    )
