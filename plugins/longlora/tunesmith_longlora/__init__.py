"""LongLoRA (Chen et al. 2023, arXiv 2309.12307): longer contexts, trained with shifted sparse attention."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from tunesmith import Adapter, Ge, Gt, Interval, Settings, hookimpl


@dataclass(frozen=True, kw_only=True)
class LongLoraSettings(Settings):
    """Attention in groups while training, full attention otherwise; low-rank updates, norms and embeddings trained."""

    scale: Annotated[float, Ge(1)] = 1.0
    """How many times more positions the model shall take than it was trained on; 1 leaves its positions alone."""
    rope: Literal["linear", "ntk", "yarn"] = "linear"
    """How rotary positions are scaled: interpolated (arXiv 2306.15595), by a larger base, or YaRN (2309.00071)."""
    group_size: Annotated[int, Ge(2)] | None = None
    """Tokens of an attention group while training, an even number; unset: a quarter of the scaled positions."""
    rank: Annotated[int, Gt(0)] = 8
    """Rank r of the update of each linear layer."""
    alpha: Annotated[float, Gt(0)] = 16
    """The update is scaled by alpha / rank."""
    dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    """Share of the adapter's inputs that is zeroed while training."""
    target_modules: Literal["attention", "all-linear"] | tuple[str, ...] = "attention"
    """Linear layers to adapt: those of the attention, all but the output head, or by name as for lora."""
    train_norms: bool = True
    """Whether the norms with weights are trained, as in the paper."""
    train_embeddings: bool = True
    """Whether the input embeddings are trained, as in the paper; a head that shares their weights moves with them."""


#: Settings that the conformance kit tries; its rows are twelve tokens long.
tunesmith_examples = {
    "longlora": [
        {"rank": 4, "group_size": 4},
        {"scale": 4, "group_size": 4, "rank": 2, "target_modules": "all-linear", "train_embeddings": False},
        {"scale": 2, "rope": "yarn", "group_size": 6, "dropout": 0.1, "train_norms": False},
        {"scale": 2, "rope": "ntk", "alpha": 4, "target_modules": ["q_proj", "v_proj"]},
    ]
}


@hookimpl
def tunesmith_adapters() -> Iterator[Adapter]:
    """The adapter `longlora`."""
    yield Adapter(
        name="longlora",
        summary="Longer contexts: attention in shifted groups while training, low-rank updates, norms and embeddings",
        factory="tunesmith_longlora.adapter:apply",
        settings=LongLoraSettings,
        requires=("torch", "transformers", "peft", "tunesmith_transformers"),
        # scaled positions change the outputs before the first step
        identity=False,
        check="tunesmith_longlora.check:check",
        fits="tunesmith_longlora.check:fits",
        trains_own="tunesmith_longlora.check:own",
        formula="tunesmith_longlora.adapter:parameters",
    )
