"""IA3: learned factors on keys, values and the inner feed-forward (Liu et al. 2022, arXiv 2205.05638), on PEFT."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from tunesmith import Adapter, MinLen, Settings, hookimpl


@dataclass(frozen=True, kw_only=True)
class Ia3Settings(Settings):
    """One factor a feature, starting at 1; nothing is added to the model."""

    target_modules: Annotated[tuple[str, ...], MinLen(1)] | None = None
    """Linear layers to adapt, by the last part of their name; unset: keys, values, feed-forward."""
    feedforward_modules: tuple[str, ...] | None = None
    """Those of the targets whose input is multiplied instead of their output; unset: the feed-forward's."""


#: Settings that the conformance kit tries.
tunesmith_examples = {
    "ia3": [
        {},
        {"target_modules": ["q_proj", "up_proj"]},
        {"target_modules": ["v_proj", "down_proj"], "feedforward_modules": ["down_proj"]},
    ]
}


@hookimpl
def tunesmith_adapters() -> Iterator[Adapter]:
    """The adapter `ia3`."""
    yield Adapter(
        name="ia3",
        summary="Factors on keys, values and the inner feed-forward; a few thousand parameters",
        factory="tunesmith_ia3.adapter:apply",
        settings=Ia3Settings,
        requires=("torch", "peft", "tunesmith_transformers"),
        formula="tunesmith_ia3.adapter:parameters",
        check="tunesmith_ia3.check:told",
        fits="tunesmith_ia3.check:fits",
        trains_own="tunesmith_transformers.peft.fitting:trains_head",
    )
