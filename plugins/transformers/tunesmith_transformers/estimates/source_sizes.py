"""The sizes of a model wherever it is on this machine: folder, GGUF file, wheel or hub snapshot. No torch here."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

from tunesmith import Context
from tunesmith.estimate import Sizes
from tunesmith_transformers.estimates.model_sizes import read_config, sizes_of
from tunesmith_transformers.loading.device_facts import expected_device
from tunesmith_transformers.sources.claims import WHEEL, place
from tunesmith_transformers.sources.gguf_header import config_of, read_header
from tunesmith_transformers.training.settings import ModelSettings

HUB_CACHE = "models--{}/snapshots"


def directory(settings: ModelSettings, context: Context, head: str) -> Sizes | None:
    """The sizes of a model folder."""
    return _of_folder(place(settings.source, context.folder), settings, context, head)


def gguf(settings: ModelSettings, context: Context, head: str) -> Sizes | None:
    """The sizes of a GGUF file, by its header."""
    return _of_file(place(settings.source, context.folder), settings, context, head)


def wheel(settings: ModelSettings, context: Context, head: str) -> Sizes | None:
    """The sizes of a model in a wheel that was fetched before; None for one that was not."""
    found = WHEEL.match(settings.source)
    content = context.cache / "wheels" / f"{found[1]}-{found[2]}" / "content" if found else None
    if content is None or not content.is_dir():
        return None
    folders = [path.parent for path in content.rglob("config.json") if any(path.parent.glob("*.safetensors"))]
    if folders:
        return _of_folder(folders[0], settings, context, head)
    files = sorted(content.rglob("*.gguf"))
    return _of_file(files[0], settings, context, head) if files else None


def hub(settings: ModelSettings, context: Context, head: str) -> Sizes | None:
    """The sizes of a hub model that was fetched before; None for one that was not."""
    name, _, _ = settings.source.partition("@")
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    cache = Path(os.environ.get("HF_HUB_CACHE", home / "hub")).expanduser()
    snapshots = sorted((cache / HUB_CACHE.format(name.replace("/", "--"))).glob("*"), key=lambda path: path.name)
    return _of_folder(snapshots[-1], settings, context, head) if snapshots else None


def _of_folder(folder: Path, settings: ModelSettings, context: Context, head: str) -> Sizes | None:
    config = read_config(folder / "config.json")
    return _sizes(config, settings, context, head) if config else None


def _of_file(path: Path, settings: ModelSettings, context: Context, head: str) -> Sizes | None:
    try:
        config = config_of(read_header(path))
    except (OSError, ValueError, struct.error):  # the plan's own check says what is wrong with it
        return None
    return _sizes(config, settings, context, head) if config else None


def _sizes(config: dict[str, Any], settings: ModelSettings, context: Context, head: str) -> Sizes | None:
    try:
        return sizes_of(config, head, bytes_of(settings.dtype, context.device))
    except (KeyError, TypeError, ValueError, ArithmeticError):  # lacking or odd values: loading says what is wrong
        return None


def bytes_of(dtype: str, device: str) -> float:
    """Bytes a parameter of dense weights: `auto` is float32 on a CPU, a 16-bit type elsewhere."""
    if dtype == "auto":
        return 4.0 if expected_device(device) == "cpu" else 2.0
    return 4.0 if dtype == "float32" else 2.0
