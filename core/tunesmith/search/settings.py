"""The table `[search]`: what concerns the engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from annotated_types import Gt

from tunesmith.spec import Settings


@dataclass(frozen=True, kw_only=True)
class SearchSettings(Settings):
    """The keys of `[search]` that concern the engine; the others are the searcher's."""

    trials: Annotated[int, Gt(0)] = 20
    """How many choices of values are tried in all."""
    measure: str | None = None
    """The measure that decides, after training; None takes the first one of the first evaluator."""
    space: dict[str, Any] = field(default_factory=dict)
    """Keys of the recipe with what they vary over: `{ low, high, log, step }` or `{ choices }`."""
    keep_checkpoints: bool = False
    """Keep the checkpoints of trials that have ended; their artifacts are kept anyway."""
