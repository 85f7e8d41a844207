"""Learning rates by place: a rate of its own for the new head, and lower ones the further below it a block stands."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tunesmith_classify.settings import TagSettings
from tunesmith_transformers.loading.heads import head_modules

BLOCK = re.compile(r"\.(\d+)\.")


def rates(model: Any, settings: TagSettings) -> dict[int, float]:
    """What the learning rate of each parameter is multiplied by, by its id; those that keep it are left out.

    Discriminative rates: Howard, Ruder 2018 (arXiv 1801.06146), section 3.2; by layer as in ELECTRA (arXiv 2003.10555).

    Args:
        model: unadapted or wrapped by PEFT; its parameters may be an adapter's.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    head = {id(parameter) for module in head_modules(inner).values() for parameter in module.parameters()}
    embeddings = {id(parameter) for parameter in inner.get_input_embeddings().parameters()}
    names = dict(model.named_parameters())
    blocks = [int(found[1]) for name in names if (found := BLOCK.search(name))]
    top = max(blocks, default=-1)
    factors: dict[int, float] = {}
    for name, parameter in names.items():
        block = BLOCK.search(name)
        if id(parameter) in head:
            rate, base = settings.head_learning_rate, settings.learning_rate
            factor = 1.0 if rate is None or not base else rate / base
        elif block:
            factor = settings.layer_decay ** (top - int(block[1]))
        elif id(parameter) in embeddings or "embeddings." in name:
            factor = settings.layer_decay ** (top + 1)
        else:
            factor = 1.0
        if factor != 1.0:
            factors[id(parameter)] = factor
    return factors


def regroup(optimizer: Any, factors: Mapping[int, float]) -> None:
    """Part an optimizer's groups by the factors of their parameters' learning rates."""
    for group in list(optimizer.param_groups):
        apart: dict[float, list[Any]] = {}
        for parameter in group["params"]:
            apart.setdefault(factors.get(id(parameter), 1.0), []).append(parameter)
        group["params"] = apart.pop(1.0, [])
        for factor, parameters in sorted(apart.items()):
            optimizer.add_param_group({**group, "params": parameters, "lr": group["lr"] * factor})
    optimizer.param_groups[:] = [group for group in optimizer.param_groups if group["params"]]
