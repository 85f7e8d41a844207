"""The shapes of a model's stored tensors, by the headers of its files: nothing is fetched or loaded. No torch here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tunesmith import Context
from tunesmith_transformers.sources.claims import place
from tunesmith_transformers.sources.configuration import hub_folder, wheel_folder
from tunesmith_transformers.training.settings import ModelSettings

Shapes = dict[str, tuple[int, ...]]
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
LARGEST = 100_000_000  # bytes of a header: the format allows no more
DENSE = ("F64", "F32", "F16", "BF16")


def directory(settings: ModelSettings, context: Context) -> Shapes | None:
    """The shapes of a model folder."""
    return of_folder(place(settings.source, context.folder))


def wheel(settings: ModelSettings, context: Context) -> Shapes | None:
    """The shapes of a model in a wheel that was fetched before; None for one that was not."""
    folder = wheel_folder(settings, context)
    return of_folder(folder) if folder else None


def hub(settings: ModelSettings, context: Context) -> Shapes | None:
    """The shapes of a hub model that was fetched before; None for one that was not."""
    folder = hub_folder(settings)
    return of_folder(folder) if folder else None


def of_folder(folder: Path) -> Shapes | None:
    """The shapes in a folder of Transformers' layout; None where they cannot be read, or are those of packed weights.

    A model of several parts is none of those told here: which part is trained, only loading says.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if "quantization_config" in config or "text_config" in config:
            return None
        found: dict[str, Any] = {}
        for path in _files(folder):
            found.update(read_header(path))
        if any(".weight" in name and one["dtype"] not in DENSE for name, one in found.items()):
            return None
        return {name: tuple(one["shape"]) for name, one in found.items()} or None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # loading says what is wrong with it
        return None


def read_header(path: Path) -> dict[str, Any]:
    """Type, shape and place of each tensor of a safetensors file, by name.

    Raises:
        ValueError, OSError: it is no such file.
    """
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > LARGEST:
            raise ValueError(f"{path.name} is no safetensors file")
        header = json.loads(file.read(size))
    header.pop("__metadata__", None)
    return dict(header)


def _files(folder: Path) -> Iterator[Path]:
    """Those that Transformers reads."""
    if (folder / WEIGHTS).is_file():
        yield folder / WEIGHTS
    elif (folder / INDEX).is_file():
        names = set(json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"].values())
        yield from (folder / name for name in sorted(names) if (folder / name).parent == folder)
