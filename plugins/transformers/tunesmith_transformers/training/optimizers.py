"""Optimizers by name: which of them this device has, and what is used where it has not. No torch here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tunesmith import MissingError, RecipeError
from tunesmith.errors import nearest
from tunesmith_transformers.loading.device_facts import expected_device
from tunesmith_transformers.training import best_checkpoint as best
from tunesmith_transformers.training import refused_arguments, schedules
from tunesmith_transformers.training.packages import lacking
from tunesmith_transformers.training.settings import TrainingSettings

ADAM = ("adam_beta1", "adam_beta2", "adam_epsilon")
BETAS = ADAM[:2]
LOW_RANK = ("rank", "update_proj_gap", "scale", "proj_type")
ADEMAMIX = ("beta1", "beta2", "beta3", "alpha", "eps", "t_alpha", "t_beta3")
GROK = ("alpha_init", "lamb", "gamma", "grokking_signal_decay_rate", "gradient_clipping")
ANY_PRECISION = ("use_kahan_summation", "momentum_dtype", "variance_dtype", "compensation_buffer_dtype")
TORCHAO = ("bf16_stochastic_round",)
RMSPROP = ("momentum", "alpha", "eps", "weight_decay", "centered")

#: Every optimizer that can be used here, by Transformers' names: the module that it needs beside torch, the arguments
#: of Adam that it reads, and the keys that it knows in `optim_args`.
OPTIMIZERS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "adamw_torch": ("", ADAM, ()),
    "adamw_torch_fused": ("", ADAM, ()),
    "adamw_torch_xla": ("torch_xla", ADAM, ()),
    "adamw_torch_npu_fused": ("torch_npu", ADAM, ()),
    "adamw_anyprecision": ("torchdistx", ADAM, ANY_PRECISION),
    "adamw_torch_4bit": ("torchao", ADAM, TORCHAO),
    "adamw_torch_8bit": ("torchao", ADAM, TORCHAO),
    "adafactor": ("", (), ()),
    "sgd": ("", (), ("momentum", "dampening", "weight_decay", "nesterov")),
    "adagrad": ("", (), ("lr_decay", "weight_decay", "eps")),
    "rmsprop": ("", (), RMSPROP),
    "adamw_bnb_8bit": ("bitsandbytes", ADAM, ()),
    "adamw_8bit": ("bitsandbytes", ADAM, ()),
    "ademamix": ("bitsandbytes", ADAM, ADEMAMIX),
    "ademamix_8bit": ("bitsandbytes", ADAM, ADEMAMIX),
    "lion_8bit": ("bitsandbytes", BETAS, ()),
    "lion_32bit": ("bitsandbytes", BETAS, ()),
    "rmsprop_bnb": ("bitsandbytes", (), ()),
    "rmsprop_bnb_8bit": ("bitsandbytes", (), ()),
    "rmsprop_bnb_32bit": ("bitsandbytes", (), ()),
    "paged_adamw_32bit": ("bitsandbytes", ADAM, ()),
    "paged_adamw_8bit": ("bitsandbytes", ADAM, ()),
    "paged_ademamix_32bit": ("bitsandbytes", ADAM, ADEMAMIX),
    "paged_ademamix_8bit": ("bitsandbytes", ADAM, ADEMAMIX),
    "paged_lion_32bit": ("bitsandbytes", BETAS, ()),
    "paged_lion_8bit": ("bitsandbytes", BETAS, ()),
    "galore_adamw": ("galore_torch", (), LOW_RANK),
    "galore_adamw_8bit": ("galore_torch", (), LOW_RANK),
    "galore_adafactor": ("galore_torch", (), LOW_RANK),
    "apollo_adamw": ("apollo_torch", ADAM, (*LOW_RANK, "proj", "scale_type")),
    "grokadamw": ("grokadamw", (), GROK),
    "stable_adamw": ("optimi", ADAM, ("max_lr", "kahan_sum", "decouple_lr")),
}
IN_BACKWARD = "it updates inside the backward pass, where nothing can stop a step whose gradient is no number"
TWO_STATES = "its weights for use are others than those that it trains, which a measurement or checkpoint does not know"
#: Those that cannot be used here, and why.
UNUSABLE = {
    "lomo": IN_BACKWARD,
    "adalomo": IN_BACKWARD,
    "galore_adamw_layerwise": IN_BACKWARD,
    "galore_adamw_8bit_layerwise": IN_BACKWARD,
    "galore_adafactor_layerwise": IN_BACKWARD,
    "apollo_adamw_layerwise": IN_BACKWARD,
    "schedule_free_adamw": TWO_STATES,
    "schedule_free_radam": TWO_STATES,
    "schedule_free_sgd": TWO_STATES,
}
#: Paged ones keep their state in memory that a GPU shares with the host; each beside the same update without it.
PAGED = {
    "paged_adamw_32bit": "adamw_torch",
    "paged_adamw_8bit": "adamw_8bit",
    "paged_ademamix_32bit": "ademamix",
    "paged_ademamix_8bit": "ademamix_8bit",
    "paged_lion_32bit": "lion_32bit",
    "paged_lion_8bit": "lion_8bit",
}
PROJECTED = ("galore_", "apollo_")  # need to be told which layers


def chosen(settings: TrainingSettings, device: str) -> tuple[str, str | None]:
    """The optimizer to use on a device, and a sentence when it is not the one that the recipe names.

    Args:
        device: what torch calls it; only its kind counts.

    Raises:
        RecipeError: there is none of that name, it cannot be used here, or the device has no paged memory and the
            recipe wants to stop then.
        MissingError: its package is not installed.
    """
    name = settings.optim
    _check_name(name)
    used = name
    note = None
    kind = device.partition(":")[0]
    if name in PAGED and kind != "cuda":
        if settings.optim_unavailable == "stop":
            raise RecipeError(
                f"optim = {name!r} pages its state between GPU and host, and the device is {kind!r} here",
                fix=f'Set optim = "{PAGED[name]}", or optim_unavailable = "replace", in [trainer].',
                setting=("optim",),
            )
        used = PAGED[name]
        note = f"{name} pages its state between GPU and host; on {kind} {used} is used instead"
    module = OPTIMIZERS[used][0]
    if module and (absent := lacking(module)):
        raise MissingError(
            f"optim = {used!r} needs {absent}, which is not installed here",
            fix=f'Run: pip install {absent}, or set optim = "adamw_torch" in [trainer].',
            setting=("optim",),
        )
    return used, note


def _check_name(name: str) -> None:
    if name in UNUSABLE:
        raise RecipeError(
            f"optim = {name!r} cannot be used here: {UNUSABLE[name]}",
            fix='Set optim = "adamw_torch" in [trainer], or "adamw_8bit", whose state takes a quarter of the memory.',
            setting=("optim",),
        )
    if name not in OPTIMIZERS:
        near = nearest(name, list(OPTIMIZERS))
        raise RecipeError(
            f"there is no optimizer {name!r}",
            fix=f"Did you mean {near!r}?" if near else f"There are: {', '.join(OPTIMIZERS)}.",
            setting=("optim",),
        )


def _check_options(name: str, arguments: dict[str, Any]) -> None:
    """Refuse arguments of an optimizer that the one in use does not read."""
    _, adam, keys = OPTIMIZERS[name]
    for argument in ADAM:
        if argument in arguments and argument not in adam:
            raise RecipeError(
                f"{argument} in [trainer.arguments] has no effect: {name} does not read it",
                fix='Leave it out, or set optim = "adamw_torch" in [trainer].',
                setting=("arguments", argument),
            )
    projected = name.startswith(PROJECTED)
    if projected != bool(arguments.get("optim_target_modules")):
        raise RecipeError(
            f"optim = {name!r} does not know which layers to project"
            if projected
            else f"optim_target_modules in [trainer.arguments] has no effect: {name} projects no gradients",
            fix='Set optim_target_modules = "all-linear" in [trainer.arguments].' if projected else "Leave it out.",
            setting=("optim",) if projected else ("arguments", "optim_target_modules"),
        )
    if given := arguments.get("optim_args"):
        _check_pairs(name, str(given), keys)


def _check_pairs(name: str, given: str, keys: Sequence[str]) -> None:
    for pair in given.replace(" ", "").split(","):
        key, equals, value = pair.partition("=")
        if not equals or not value or "=" in value:
            raise RecipeError(
                f"optim_args = {given!r} does not read KEY=VALUE,KEY=VALUE",
                fix='For example optim_args = "momentum=0.9".',
                setting=("arguments", "optim_args"),
            )
        if key not in keys:
            near = nearest(key, keys)
            raise RecipeError(
                f"optim_args names {key!r}, which {name} does not read",
                fix=f"Did you mean {near!r}?" if near else f"It reads: {', '.join(keys) or 'none'}.",
                setting=("arguments", "optim_args"),
            )


def check(
    settings: TrainingSettings,
    folder: Path,
    device: str,
    evaluators: Sequence[str] | None = None,
    measures: best.Measures | None = None,
) -> Iterator[str]:
    """The plan's word on optimizer, schedule, arguments and measuring, for the records of trainers on this base.

    Raises:
        RecipeError, MissingError: as `chosen`, `schedules.check`, `refused_arguments.check` and `best.check`.
    """
    best.check(settings, evaluators, measures=measures)
    best.check_saving(settings)
    refused_arguments.check(settings, device)
    yield from check_optimizer(settings, device)


def check_optimizer(settings: TrainingSettings, device: str) -> Iterator[str]:
    """The plan's word on optimizer and schedule.

    Raises:
        RecipeError, MissingError: as `chosen` and `schedules.check`.
    """
    used, note = chosen(settings, expected_device(device))
    _check_options(used, settings.arguments)
    schedules.check(settings)
    if note:
        yield note
