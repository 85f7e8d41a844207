"""What this machine does a second, measured once by `tunesmith plan --probe` and kept for later plans."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import Any

from tunesmith.estimate import Sizes, Speed
from tunesmith.folder import parsed_file
from tunesmith.store import write_json

FILE = "speed.json"
ROWS = 512  # tokens of a product, about those of a small batch
SECONDS = 0.4  # of each of the two measurements
BEYOND_CACHES = 256 * 2**20  # bytes of the values that plain operations read, more than a processor keeps near it


def known(cache: Path, sizes: Sizes, device: str, threads: int) -> Speed | None:
    """What was measured here for blocks of this width; None before it was."""
    found = parsed_file(cache / FILE).get(_key(sizes, device, threads))
    try:
        return Speed(**found) if isinstance(found, dict) else None
    except TypeError:  # another version wrote it
        return None


def measure(sizes: Sizes, device: str, process: int) -> Speed:
    """Time products in the shapes of a block, and plain operations on more memory than caches hold.

    Args:
        process: bytes of a process that has imported what a run imports.
    """
    import torch

    kind = torch.float32 if sizes.bytes_per_parameter > 2 else torch.bfloat16
    where: dict[str, Any] = {"device": device, "dtype": kind}
    shapes = list(dict.fromkeys(sizes.linear.values()))
    weights = [torch.randn(out, into, **where) for into, out in shapes]
    inputs = [torch.randn(ROWS, into, **where) for into, _ in shapes]
    row = torch.randn(ROWS, sizes.intermediate, **where)
    count = max(4, min(32, BEYOND_CACHES // (row.numel() * row.element_size())))
    wide = [row.clone() for _ in range(count)]

    def products() -> None:
        for weight, values in zip(weights, inputs, strict=True):
            torch.nn.functional.linear(values, weight)

    def plain() -> list[Any]:
        return [one * other for one, other in pairwise(wide)]  # all are kept, as for a backward pass

    done = 2 * ROWS * sum(weight.numel() for weight in weights)
    moved = (count - 1) * 3 * row.numel() * row.element_size()
    flops, bandwidth = done / _seconds(products, device), moved / _seconds(plain, device)
    return Speed(flops=flops, bandwidth=bandwidth, process=process)


def keep(cache: Path, sizes: Sizes, device: str, threads: int, speed: Speed) -> None:
    """Keep a measurement for later plans."""
    cache.mkdir(parents=True, exist_ok=True)
    write_json(cache / FILE, {**parsed_file(cache / FILE), _key(sizes, device, threads): asdict(speed)})


def _seconds(run: Callable[[], object], device: str) -> float:
    """The median time of a call, after two to warm up."""
    import torch

    def finish() -> None:
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)

    for _ in range(2):
        run()
    finish()
    taken: list[float] = []
    begun = time.perf_counter()
    while time.perf_counter() - begun < SECONDS or len(taken) < 5:
        start = time.perf_counter()
        run()
        finish()
        taken.append(time.perf_counter() - start)
    return sorted(taken)[len(taken) // 2]


def _key(sizes: Sizes, device: str, threads: int) -> str:
    """Whatever a speed depends on: processor, torch, device, threads, and the shapes."""
    try:
        torch: Any = metadata.version("torch")
    except metadata.PackageNotFoundError:
        torch = "none"
    shapes = f"{sizes.hidden}x{sizes.intermediate}x{sizes.bytes_per_parameter:g}"
    return f"{platform.node()} {platform.machine()} {os.cpu_count()} torch-{torch} {device} {threads} {shapes}"
