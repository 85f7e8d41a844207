"""Weighted sums of weights that were trained in place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunesmith import Adapted, UsageError
from tunesmith.adapted import SavedAdapter


def combine(
    adapted: Adapted, parts: Sequence[SavedAdapter], how: str | None, options: Mapping[str, Any], folder: Path
) -> dict[str, Any]:
    """Write base + sum of weight x (tuned - base); see `Adapted.combine`.

    With weights that add up to 1 it is the average of the tuned models (Wortsman et al. 2022, arXiv 2203.05482);
    with others, task arithmetic (Ilharco et al. 2022, arXiv 2212.04089).

    Args:
        adapted: a fresh handle, whose weights are the base's.

    Raises:
        UsageError: another way than `linear`, or any option.
        DataError: a part holds other tensors.
    """
    if how not in (None, "linear") or options:
        raise UsageError("weights trained in place are combined by linear only, without options", fix="--how linear")
    base = {name: tensor.clone() for name, tensor in adapted.state().items()}
    total = {name: tensor.float() for name, tensor in base.items()}
    for part in parts:
        adapted.load(part.folder)
        for name, tensor in adapted.state().items():
            total[name] = total[name] + part.weight * (tensor.float() - base[name].float())
    adapted.load_state({name: tensor.to(base[name].dtype) for name, tensor in total.items()})
    adapted.save(folder)
    return {}
