"""Weighted sums of LoRA adapters, as PEFT makes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tunesmith import TunesmithError, UsageError
from tunesmith.adapted import SavedAdapter
from tunesmith_transformers.peft.adapted import PeftAdapted
from tunesmith_transformers.peft.combine import only, weighted

#: Ways to combine, by PEFT's names, and the options of each. `cat` alone is the exact sum of the updates.
WAYS: dict[str, tuple[str, ...]] = {
    "cat": (),
    "svd": ("svd_rank",),
    "linear": (),
    "ties": ("density", "majority_sign_method"),
    "ties_svd": ("density", "majority_sign_method", "svd_rank"),
    "dare_linear": ("density",),
    "dare_linear_svd": ("density", "svd_rank"),
    "dare_ties": ("density", "majority_sign_method"),
    "dare_ties_svd": ("density", "majority_sign_method", "svd_rank"),
    "magnitude_prune": ("density",),
    "magnitude_prune_svd": ("density", "svd_rank"),
}


def combine(
    adapted: PeftAdapted, parts: Sequence[SavedAdapter], how: str | None, options: Mapping[str, Any], folder: Path
) -> dict[str, Any]:
    """Write the weighted sum; see `Adapted.combine`.

    The result is plain LoRA at scale 1: alpha equals its rank.

    Raises:
        UsageError: no such way, or an option is unknown, missing or out of its range.
        TunesmithError: a part is DoRA, the rank is over a layer's size, or PEFT refuses.
    """
    way = how or "cat"
    if way not in WAYS:
        raise UsageError(f"LoRA adapters are not combined by {way!r}", fix=f"There are: {', '.join(WAYS)}.")
    only(options, *WAYS[way])
    _check_options(way, options)
    targets: list[list[str]] = []

    def check(configs: Sequence[Any]) -> None:
        _check_alike(configs, parts)
        _check_rank(adapted, configs, way, options.get("svd_rank"))
        for config in configs:
            config.use_rslora = False  # else PEFT scales the sum by the root of its rank; the parts' scales are set
            targets.append(sorted(config.target_modules))

    config = weighted(adapted, parts, folder, check, combination_type=way, **options)
    changed = {
        "rank": config.r,
        "alpha": config.r,
        "rank_pattern": {},
        "alpha_pattern": {},
        "init": "default",
        "pissa_niter": None,
        "use_rslora": False,
    }
    if any(other != targets[0] for other in targets):
        changed["target_modules"] = sorted({name for names in targets for name in names})
    return changed


def _check_options(way: str, options: Mapping[str, Any]) -> None:
    rules: dict[str, tuple[Callable[[Any], bool], str]] = {
        "density": (lambda value: isinstance(value, (int, float)) and 0 < value <= 1, "a share above 0, up to 1"),
        "svd_rank": (lambda value: type(value) is int and value > 0, "a whole number above 0"),
        "majority_sign_method": (lambda value: value in ("total", "frequency"), "total or frequency"),
    }
    for name, value in options.items():
        holds, meaning = rules[name]
        if not holds(value):
            raise UsageError(f"{name} = {value!r} is not {meaning}", fix=f"--set {name}=VALUE")
    if "density" in WAYS[way] and "density" not in options:
        raise UsageError(
            f"{way} needs density, the share of each adapter's values that is kept", fix="For example --set density=0.5"
        )


def _check_alike(configs: Sequence[Any], parts: Sequence[SavedAdapter]) -> None:
    for config, part in zip(configs, parts, strict=True):
        if config.use_dora:
            raise TunesmithError(
                f"the adapter in {part.folder} is DoRA, whose magnitudes make it no linear function of its matrices: "
                "a weighted sum of them is not the sum of what they do",
                fix="Merge each into a model of its own (`tunesmith export`), or combine adapters without use_dora.",
            )
        if config.target_parameters:
            raise TunesmithError(
                f"the adapter in {part.folder} adapts fused weights of experts, and PEFT does not add those up",
                fix="Combine adapters that were trained without target_parameters.",
            )


def _check_rank(adapted: PeftAdapted, configs: Sequence[Any], way: str, wanted: int | None) -> None:
    """Refuse a sum whose rank is over a layer's size: LoRA of that rank is refused when it is loaded."""
    ranks = [max(config.r, *config.rank_pattern.values()) if config.rank_pattern else config.r for config in configs]
    rank = sum(ranks) if way == "cat" else wanted or max(ranks)
    names = {name for config in configs for name in config.target_modules}
    for name in sorted(names):
        layer = adapted.handle.model.get_submodule(name)
        smallest = min(layer.in_features, layer.out_features)
        if rank > smallest:
            raise TunesmithError(
                f"the combination would have rank {rank}, over the size of {name} "
                f"({layer.in_features} x {layer.out_features})",
                fix=f"Combine by svd: --how svd --set svd_rank={min(smallest, max(ranks))}",
            )
