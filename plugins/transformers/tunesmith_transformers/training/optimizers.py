"""Optimizers by name: which of them this device has, and what is used where it has not. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from tunesmith import MissingError, RecipeError
from tunesmith_transformers.loading.device_facts import expected_device
from tunesmith_transformers.training import best_checkpoint as best
from tunesmith_transformers.training.settings import TrainingSettings

#: Those of bitsandbytes, by Transformers' names.
BITSANDBYTES = (
    "adamw_bnb_8bit",
    "adamw_8bit",
    "ademamix",
    "ademamix_8bit",
    "lion_8bit",
    "lion_32bit",
    "rmsprop_bnb",
    "rmsprop_bnb_8bit",
    "rmsprop_bnb_32bit",
)
#: Paged ones keep their state in memory that a GPU shares with the host; each beside the same update without it.
PAGED = {
    "paged_adamw_32bit": "adamw_torch",
    "paged_adamw_8bit": "adamw_8bit",
    "paged_ademamix_32bit": "ademamix",
    "paged_ademamix_8bit": "ademamix_8bit",
    "paged_lion_32bit": "lion_32bit",
    "paged_lion_8bit": "lion_8bit",
}


def wanted(settings: TrainingSettings) -> str:
    """The optimizer that the recipe names; `[trainer.arguments]` wins."""
    return str(settings.arguments.get("optim", settings.optim))


def chosen(settings: TrainingSettings, device: str) -> tuple[str, str | None]:
    """The optimizer to use on a device, and a sentence when it is not the one that the recipe names.

    Args:
        device: what torch calls it; only its kind counts.

    Raises:
        RecipeError: the device has no paged memory, and the recipe wants to stop then.
        MissingError: it is one of bitsandbytes, which is not installed.
    """
    name = wanted(settings)
    used = name
    note = None
    kind = device.partition(":")[0]
    if name in PAGED and kind != "cuda":
        if settings.optim_unavailable == "stop":
            raise RecipeError(
                f"optim = {name!r} pages its state between GPU and host, and the device is {kind!r} here",
                fix=f'Set optim = "{PAGED[name]}", or optim_unavailable = "replace", in [trainer].',
            )
        used = PAGED[name]
        note = f"{name} pages its state between GPU and host; on {kind} {used} is used instead"
    if (used in BITSANDBYTES or used in PAGED) and find_spec("bitsandbytes") is None:
        raise MissingError(
            f"optim = {used!r} needs bitsandbytes, which is not installed here",
            fix='Run: pip install bitsandbytes, or set optim = "adamw_torch" in [trainer].',
        )
    return used, note


def check(settings: TrainingSettings, folder: Path, device: str, evaluators: Sequence[str] | None = None) -> list[str]:
    """The plan's word on the optimizer and on measuring between steps, for the records of trainers on this base.

    Raises:
        RecipeError, MissingError: as `chosen` and `best.check`.
    """
    best.check(settings, evaluators)
    note = chosen(settings, expected_device(device))[1]
    return [note] if note else []
