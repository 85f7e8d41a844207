"""The content of a checkpoint as safetensors and JSON: nothing in it can run code when it is read."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from tunesmith import DataError

MODEL = "model.safetensors"
OPTIMIZER = "optimizer.safetensors"
RANDOM = "random.safetensors"
STATE = "state.json"
TRAINER_STATE = "trainer_state.json"  # the name that transformers.Trainer looks for


def write_tensors(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Save tensors by name; views and second names of a tensor are copied: safetensors refuses shared storage."""
    own: dict[str, torch.Tensor] = {}
    places: set[int] = set()
    for name, given in tensors.items():
        tensor = given.detach().to("cpu").contiguous()
        storage = tensor.untyped_storage()
        if storage.nbytes() != tensor.nbytes or storage.data_ptr() in places:
            tensor = tensor.clone()
        places.add(storage.data_ptr())
        own[name] = tensor
    save_file(own, str(path))


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Load tensors by name.

    Raises:
        DataError: the file is missing or damaged.
    """
    from safetensors import SafetensorError

    try:
        return load_file(str(path))
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path.name} cannot be read: {error}", where=str(path)) from error


def flatten_optimizer(state: Mapping[str, Any]) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """An optimizer's `state_dict` as tensors by name, and the rest as JSON data."""
    tensors: dict[str, torch.Tensor] = {}
    rest: dict[str, dict[str, Any]] = {}
    for index, values in state["state"].items():
        for key, value in _leaves(values):
            if isinstance(value, torch.Tensor):
                tensors[f"{index}.{key}"] = value
            else:
                rest.setdefault(str(index), {})[key] = value
    groups = [
        {key: list(value) if isinstance(value, tuple) else value for key, value in group.items()}
        for group in state["param_groups"]
    ]
    return tensors, {"rest": rest, "param_groups": groups}


def unflatten_optimizer(tensors: Mapping[str, torch.Tensor], plain: Mapping[str, Any]) -> dict[str, Any]:
    """What `flatten_optimizer` took apart, put together again."""
    state: dict[int, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        index, _, key = name.partition(".")
        _put(state.setdefault(int(index), {}), key, tensor)
    for index, values in plain["rest"].items():
        for key, value in values.items():
            _put(state.setdefault(int(index), {}), key, value)
    groups = [
        {key: tuple(value) if key == "betas" else value for key, value in group.items()}
        for group in plain["param_groups"]
    ]
    return {"state": state, "param_groups": groups}


def load_optimizer(folder: Path, optimizer: Any) -> None:
    """Put back the optimizer's state of a checkpoint, into paged memory where it was paged.

    Raises:
        DataError: a file is missing or damaged.
    """
    tensors = read_tensors(folder / OPTIMIZER)
    optimizer.load_state_dict(unflatten_optimizer(tensors, read_state(folder)["optimizer"]))
    inner = getattr(optimizer, "optimizer", optimizer)  # accelerate wraps it
    if not getattr(inner, "is_paged", False):
        return
    for parameter, values in inner.state.items():
        for name in ("state1", "state2"):
            tensor = values.get(name)
            if tensor is not None and not getattr(tensor, "is_paged", False):
                # bitsandbytes has loaded it into ordinary GPU memory
                values[name] = inner.get_state_buffer(parameter, dtype=tensor.dtype)
                values[name].copy_(tensor)


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested state, such as that of 8-bit optimizers, with dotted names."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _put(values: dict[str, Any], name: str, value: Any) -> None:
    *path, last = name.split(".")
    for key in path:
        values = values.setdefault(key, {})
    values[last] = value


def random_state() -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """The state of Python's, NumPy's and torch's generators as tensors and JSON data."""
    version, words, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()
    tensors = {"torch": torch.get_rng_state(), "numpy": torch.from_numpy(np.asarray(keys).astype(np.int64))}
    if torch.cuda.is_available():
        for index, state in enumerate(torch.cuda.get_rng_state_all()):
            tensors[f"cuda.{index}"] = state
    plain = {
        "python": [version, list(words), gauss],
        "numpy": [str(name), int(position), int(has_gauss), float(cached)],
    }
    return tensors, plain


def set_random_state(tensors: Mapping[str, torch.Tensor], plain: Mapping[str, Any]) -> None:
    """Put the generators back as `random_state` found them."""
    version, words, gauss = plain["python"]
    random.setstate((version, tuple(words), gauss))
    name, position, has_gauss, cached = plain["numpy"]
    np.random.set_state((name, tensors["numpy"].numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(tensors["torch"])
    cuda = sorted((key for key in tensors if key.startswith("cuda.")), key=lambda key: int(key[5:]))
    if cuda and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([tensors[key] for key in cuda])


def read_state(folder: Path) -> dict[str, Any]:
    """The JSON part of a checkpoint.

    Raises:
        DataError: it is missing or damaged.
    """
    try:
        return json.loads((folder / STATE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{STATE} cannot be read: {error}", where=str(folder / STATE)) from error


def check_identity(folder: Path, expected: Mapping[str, str]) -> None:
    """Refuse a checkpoint of another run, base model or recipe.

    Raises:
        DataError: with what differs.
    """
    found = read_state(folder)["identity"]
    differing = sorted(key for key in {*found, *expected} if found.get(key) != expected.get(key))
    if differing:
        raise DataError(
            f"the checkpoint {folder.name} does not belong to this run: {', '.join(differing)} differ",
            where=str(folder),
            details=[f"{key}: checkpoint {found.get(key)}, run {expected.get(key)}" for key in differing],
            fix="Put back the checkpoint, base model and recipe that belong together, or start a new run.",
        )
