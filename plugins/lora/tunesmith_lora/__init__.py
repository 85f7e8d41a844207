"""Low-rank adaptation (Hu et al. 2021, arXiv 2106.09685), on PEFT."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from tunesmith import Adapter, Ge, Gt, Interval, Settings, hookimpl


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
    """Linear layers to adapt: last parts of names, or full names with `*`; all-linear is all but the output head."""
    target_parameters: tuple[str, ...] = ()
    """Fused weights of experts to adapt besides, each expert by a rank of its own: `experts.gate_up_proj`; without
    dropout, DoRA, and a start from the base weights."""
    rank_pattern: Mapping[str, Annotated[int, Gt(0)]] = field(default_factory=dict)
    """Other ranks for some layers, by name as in target_modules; a later entry wins."""
    alpha_pattern: Mapping[str, Annotated[float, Gt(0)]] = field(default_factory=dict)
    """Other alphas for some layers, by name as in target_modules; a later entry wins."""
    modules_to_save: tuple[str, ...] = ()
    """Modules trained in full and kept beside the adapter, by the last part of their name."""
    init: Literal["default", "gaussian", "pissa", "olora", "loftq"] = "default"
    """How A and B start: B at zero; A normal; from the base weights (pissa: arXiv 2404.02948, olora: 2406.01775); or
    from what rounding to 4 bits took from them (loftq: 2310.08659)."""
    pissa_niter: Annotated[int, Gt(0)] | None = None
    """Iterations of the fast approximate decomposition for pissa; unset: the exact one."""
    use_rslora: bool = False
    """Scale by alpha / sqrt(rank), which keeps large ranks stable (Kalajdzievski 2023, arXiv 2312.03732)."""
    use_dora: bool = False
    """Learn magnitude and direction apart (DoRA: Liu et al. 2024, arXiv 2402.09353)."""
    lora_plus_ratio: Annotated[float, Ge(1)] = 1.0
    """Learning rate of B over that of A (LoRA+: Hayou et al. 2024, arXiv 2402.12354, which takes 16)."""


#: Settings that the conformance kit tries.
tunesmith_examples = {
    "lora": [
        {"rank": 4},
        {"rank": 2, "target_modules": ["q_proj", "v_proj"], "alpha": 4, "init": "gaussian"},
        {"rank": 4, "use_rslora": True, "lora_plus_ratio": 16},
        {"rank": 4, "use_dora": True},
        {"rank": 4, "init": "pissa"},
        {"rank": 4, "init": "pissa", "pissa_niter": 4, "use_rslora": True, "rank_pattern": {"q_proj": 2}},
        {"rank": 4, "init": "olora"},
        {"rank": 4, "rank_pattern": {"*.layers.0.*": 2}, "alpha_pattern": {"v_proj": 8}, "modules_to_save": ["norm"]},
    ]
}


@hookimpl
def tunesmith_adapters() -> Iterator[Adapter]:
    """The adapter `lora`."""
    yield Adapter(
        name="lora",
        summary="Low-rank updates of linear layers; rsLoRA, DoRA, PiSSA, OLoRA, LoftQ and LoRA+ as settings",
        factory="tunesmith_lora.adapter:apply",
        settings=LoraSettings,
        requires=("torch", "peft", "tunesmith_transformers"),
        formula="tunesmith_lora.adapter:parameters",
        trains_added=True,
        check="tunesmith_lora.check:told",
        fits="tunesmith_lora.check:fits",
        trains_own="tunesmith_lora.check:own",
        estimate="tunesmith_lora.estimate:trained",
    )
