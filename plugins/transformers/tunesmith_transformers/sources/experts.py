"""What can be known of a mixture's experts and of their balancing loss without loading the model. No torch here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tunesmith import RecipeError
from tunesmith_transformers.peft.stored import renames

EXPERT = re.compile(r"\.experts\.(\d+\.)?(\w+?)(\.weight)?$")
KIND = re.compile(r"[\w-]+")
ROUTED = "output_router_logits"  # a field of every configuration with a balancing loss


def check_balance(weight: float | None, config: Mapping[str, Any] | None) -> None:
    """Refuse a weight of a balancing loss that the model does not have.

    Raises:
        RecipeError: the model is dense.
    """
    if weight is not None and config and _is_dense(config):
        raise RecipeError(
            f"router_aux_loss_coef is set, but {config['model_type']} has no loss that balances experts",
            fix="Leave it out of [model].",
            setting=("router_aux_loss_coef",),
        )


def frozen(config: Mapping[str, Any] | None, shapes: Mapping[str, tuple[int, ...]] | None) -> list[str]:
    """Which weights of experts adapters of linear layers leave as they are; empty where there are none."""
    found = [match for name in shapes or () if (match := EXPERT.search(name))]
    apart = any(match[1] for match in found)
    if not found or (apart and not renames(config)):  # linear layers each
        return []
    names = ", ".join(sorted({match[2] for match in found}))
    how = "are fused by Transformers" if apart else "are fused"
    return [
        f"its experts' weights ({names}) {how}: adapters on linear layers leave them frozen, and lora reaches them by "
        "target_parameters"
    ]


def _is_dense(config: Mapping[str, Any]) -> bool:
    """Whether the configuration's own class knows of no such loss; False where that cannot be told."""
    kind = config.get("model_type")
    spec = find_spec("transformers")
    if not isinstance(kind, str) or not KIND.fullmatch(kind) or ROUTED in config or "auto_map" in config:
        return False
    if not spec or not spec.origin:
        return False
    name = kind.replace("-", "_")
    path = Path(spec.origin).parent / "models" / name / f"configuration_{name}.py"
    try:
        return ROUTED not in path.read_text(encoding="utf-8")
    except OSError:  # a kind that has no file of its own
        return False
