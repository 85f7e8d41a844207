"""The check that an adapter can share its base: another adapter, and the bare base, are as if it were not there."""

from __future__ import annotations

from functools import partial
from typing import Any

from tunesmith.adapted import Adapted
from tunesmith.adapters import Adapters
from tunesmith.testing import trial as tiny
from tunesmith.testing.result import Failed, listed
from tunesmith.testing.trial import Trial


def shares_base(trial: Trial) -> str:
    """Two of the same adapter on one base, with other weights each, and the base beside them."""
    import torch

    handle = tiny.base_handle()
    kept = {name: tensor.clone() for name, tensor in handle.model.state_dict().items()}
    adapters = Adapters(handle)
    answers: dict[str, Any] = {}
    for seed, name in enumerate(("one", "other")):
        adapted = adapters.attach(name, trial.fresh, partial(_move, seed=seed))
        answers[name] = tiny.logits(adapted.model, trial.batch)
        adapters.switch(None)
        now = handle.model.state_dict()
        changed = [key for key in kept if key not in now or not torch.equal(kept[key], now[key])]
        if changed or len(now) != len(kept):
            raise Failed(
                "with the adapter switched off the base is not what it was: "
                f"{listed(changed) or 'it has more tensors'}; give frozen weights new storage before they are changed"
            )
    for name, expected in answers.items():
        found = tiny.logits(adapters.switch(name).model, trial.batch)
        if not torch.equal(found, expected):
            raise Failed(
                f"put on a base beside another one and switched back to, it answers otherwise than before (by "
                f"{tiny.distance(found, expected):.1e}): something of it is kept where a switch does not reach"
            )
    return "two on one base answer as each does alone, and the base stays what it is"


def _move(adapted: Adapted, seed: int) -> None:
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapted.trainable().values():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
