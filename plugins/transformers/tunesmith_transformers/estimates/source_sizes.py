"""The sizes of a model wherever it is on this machine: folder, GGUF file, wheel or hub snapshot. No torch here."""

from __future__ import annotations

from typing import Any

from tunesmith import Context
from tunesmith.estimate import Sizes
from tunesmith_transformers.estimates.model_sizes import sizes_of
from tunesmith_transformers.loading.device_facts import expected_device
from tunesmith_transformers.sources import configuration
from tunesmith_transformers.training.settings import ModelSettings


def directory(settings: ModelSettings, context: Context, head: str) -> Sizes | None:
    """The sizes of a model folder."""
    return _sizes(configuration.directory(settings, context), settings, context, head)


def gguf(settings: ModelSettings, context: Context, head: str) -> Sizes | None:
    """The sizes of a GGUF file, by its header."""
    return _sizes(configuration.gguf(settings, context), settings, context, head)


def wheel(settings: ModelSettings, context: Context, head: str) -> Sizes | None:
    """The sizes of a model in a wheel that was fetched before; None for one that was not."""
    return _sizes(configuration.wheel(settings, context), settings, context, head)


def hub(settings: ModelSettings, context: Context, head: str) -> Sizes | None:
    """The sizes of a hub model that was fetched before; None for one that was not."""
    return _sizes(configuration.hub(settings, context), settings, context, head)


def _sizes(config: dict[str, Any] | None, settings: ModelSettings, context: Context, head: str) -> Sizes | None:
    if not config:
        return None
    if settings.add_tokens and isinstance(config.get("vocab_size"), int):
        config = {**config, "vocab_size": config["vocab_size"] + len(settings.add_tokens)}
    try:
        return sizes_of(config, head, bytes_of(settings.dtype, context.device))
    except (KeyError, TypeError, ValueError, ArithmeticError):  # lacking or odd values: loading says what is wrong
        return None


def bytes_of(dtype: str, device: str) -> float:
    """Bytes a parameter of dense weights: `auto` is float32 on a CPU, a 16-bit type elsewhere."""
    if dtype == "auto":
        return 4.0 if expected_device(device) == "cpu" else 2.0
    return 4.0 if dtype == "float32" else 2.0
