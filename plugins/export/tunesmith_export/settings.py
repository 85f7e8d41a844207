"""Settings of the exporters."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tunesmith import Ge, Gt, Interval, Settings


@dataclass(frozen=True, kw_only=True)
class ExportSettings(Settings):
    """Where an exporter writes."""

    to: Path | None = None
    """Folder to write, relative to the recipe; unset: `export/NAME` beside the artifact."""
    overwrite: bool = False
    """Whether an earlier export in that folder is replaced; no other folder ever is."""


@dataclass(frozen=True, kw_only=True)
class MergeSettings(ExportSettings):
    """How the merged model is kept, and what it is compared with first."""

    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Type of the weights that are written; auto keeps the type in which the base is loaded."""
    rows: Annotated[int, Gt(0)] = 64
    """Held-out rows to compare on, evenly spread over all of them; training rows where none are held out."""
    tokens: Annotated[int, Gt(0)] = 1024
    """Supervised tokens of these rows to compare on, evenly spread; each takes vocabulary x 8 bytes of memory."""
    batch_size: Annotated[int, Gt(0)] = 8
    """Rows a forward pass of the comparison."""
    max_kl: Annotated[float, Ge(0)] = 0.1
    """Largest mean KL divergence of the merged model from the tuned one, in nats a token or label."""
    min_agreement: Annotated[float, Interval(ge=0, le=1)] = 0.85
    """Smallest share of tokens or labels at which both hold the same one for the likeliest."""
    max_difference: Annotated[float, Ge(0)] = 0.1
    """Largest difference of a reward model's scores, as a share of their root mean square."""
    force: bool = False
    """Write the merged model although it is further from the tuned one, or could not be compared."""


@dataclass(frozen=True, kw_only=True)
class AdapterSettings(ExportSettings):
    """How the adapter names its base."""

    base: str | None = None
    """What `adapter_config.json` names as the base model; unset: what the recipe names, a folder by its last part."""
