"""Training the model's own parameters: all of them, or a named part (transfer learning)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from tunesmith import Adapter, Gt, MinLen, Settings, hookimpl


@dataclass(frozen=True, kw_only=True)
class FullSettings(Settings):
    """Every parameter moves."""

    keep_base: bool = False
    """Keep a copy of the base weights in memory, for trainers that compare with the untrained model."""


@dataclass(frozen=True, kw_only=True)
class HeadSettings(Settings):
    """Only the output head moves."""


@dataclass(frozen=True, kw_only=True)
class LastLayersSettings(Settings):
    """The last blocks move."""

    layers: Annotated[int, Gt(0)] = 2
    """How many blocks, counted from the output."""
    head: bool = True
    """Whether the output head and the final norm move too; tied embeddings stay unless this is set."""


@dataclass(frozen=True, kw_only=True)
class RegexSettings(Settings):
    """The parameters whose name matches move."""

    pattern: Annotated[str, MinLen(1)]
    """A regular expression, searched for anywhere in a parameter's name."""


#: Settings that the conformance kit tries; `regex` cannot be tried without a pattern.
tunesmith_examples = {
    "full": [{}, {"keep_base": True}],
    "last-layers": [{"layers": 1}, {"layers": 2, "head": False}],
    "regex": {"pattern": "mlp"},
}


@hookimpl
def tunesmith_adapters() -> Iterator[Adapter]:
    """What moves and what stays: full, head, last-layers, regex."""
    needs = ("torch", "safetensors")
    yield Adapter(
        name="full",
        summary="Train every parameter",
        factory="tunesmith_full.adapters:full",
        settings=FullSettings,
        requires=needs,
        formula="tunesmith_full.adapters:full_parameters",
        trains_added=True,
        check="tunesmith_full.check:full",
        trains_own="tunesmith_full.check:own",
        estimate="tunesmith_full.estimate:full",
    )
    yield Adapter(
        name="head",
        summary="Train the output head only",
        factory="tunesmith_full.adapters:head",
        settings=HeadSettings,
        requires=needs,
        formula="tunesmith_full.adapters:head_parameters",
        check="tunesmith_full.check:head",
        trains_own="tunesmith_full.check:own",
    )
    yield Adapter(
        name="last-layers",
        summary="Train the last blocks, and the head if wanted",
        factory="tunesmith_full.adapters:last_layers",
        settings=LastLayersSettings,
        requires=needs,
        formula="tunesmith_full.adapters:last_layers_parameters",
        check="tunesmith_full.check:last_layers",
        fits="tunesmith_full.check:last_layers_fit",
        trains_own="tunesmith_full.check:own",
    )
    yield Adapter(
        name="regex",
        summary="Train the parameters whose name matches a pattern",
        factory="tunesmith_full.adapters:regex",
        settings=RegexSettings,
        requires=needs,
        formula="tunesmith_full.adapters:regex_parameters",
        check="tunesmith_full.check:pattern",
        fits="tunesmith_full.check:pattern_fits",
        trains_own="tunesmith_full.check:own",
    )
