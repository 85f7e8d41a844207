"""A model's own configuration wherever it is on this machine: nothing is fetched. No torch here."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

from tunesmith import Context
from tunesmith_transformers.estimates.model_sizes import read_config
from tunesmith_transformers.sources.claims import WHEEL, place
from tunesmith_transformers.sources.gguf_header import config_of, read_header
from tunesmith_transformers.training.settings import ModelSettings

HUB_CACHE = "models--{}/snapshots"


def directory(settings: ModelSettings, context: Context) -> dict[str, Any] | None:
    """The configuration of a model folder."""
    return read_config(place(settings.source, context.folder) / "config.json")


def gguf(settings: ModelSettings, context: Context) -> dict[str, Any] | None:
    """The configuration of a GGUF file, by its header."""
    return of_file(place(settings.source, context.folder))


def wheel(settings: ModelSettings, context: Context) -> dict[str, Any] | None:
    """The configuration of a model in a wheel that was fetched before; None for one that was not."""
    if folder := wheel_folder(settings, context):
        return read_config(folder / "config.json")
    content = _content(settings, context)
    files = sorted(content.rglob("*.gguf")) if content else []
    return of_file(files[0]) if files else None


def wheel_folder(settings: ModelSettings, context: Context) -> Path | None:
    """The model folder in a wheel that was fetched before."""
    content = _content(settings, context)
    configs = content.rglob("config.json") if content else ()
    return next((path.parent for path in configs if any(path.parent.glob("*.safetensors"))), None)


def _content(settings: ModelSettings, context: Context) -> Path | None:
    """Where the files of a wheel are that was fetched before."""
    found = WHEEL.match(settings.source)
    content = context.cache / "wheels" / f"{found[1]}-{found[2]}" / "content" if found else None
    return content if content and content.is_dir() else None


def hub(settings: ModelSettings, context: Context) -> dict[str, Any] | None:
    """The configuration of a hub model that was fetched before; None for one that was not."""
    folder = hub_folder(settings)
    return read_config(folder / "config.json") if folder else None


def hub_folder(settings: ModelSettings) -> Path | None:
    """The snapshot of a hub model that was fetched before."""
    name, _, _ = settings.source.partition("@")
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    cache = Path(os.environ.get("HF_HUB_CACHE", home / "hub")).expanduser()
    snapshots = sorted((cache / HUB_CACHE.format(name.replace("/", "--"))).glob("*"), key=lambda path: path.name)
    return snapshots[-1] if snapshots else None


def of_file(path: Path) -> dict[str, Any] | None:
    """The configuration that a GGUF file's header tells."""
    try:
        return config_of(read_header(path))
    except (OSError, ValueError, struct.error):  # the plan's own check says what is wrong with it
        return None
