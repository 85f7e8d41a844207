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
FEW = 64  # tokens of another: what it takes longer than its share is what weights take to be read
NARROW = 16  # width of a narrow matrix, the usual rank of an adapter
LENGTH = 128  # tokens of a sequence in the attention that is measured
BLOCKS = 8  # whose weights are read in turn, so that none is near the processor still
SECONDS = 0.8  # of each of the measurements
BEYOND_CACHES = 256 * 2**20  # bytes of the values that plain operations read, more than a processor keeps near it


def known(cache: Path, sizes: Sizes, device: str, threads: int) -> Speed | None:
    """What was measured here for blocks of this width; None before it was."""
    found = parsed_file(cache / FILE).get(_key(sizes, device, threads))
    try:
        return Speed(**found) if isinstance(found, dict) else None
    except TypeError:  # another version wrote it
        return None


def measure(sizes: Sizes, device: str) -> Speed:
    """Time what a training step is made of, in the shapes of a block. What a process takes is not looked at."""
    import torch

    kind = torch.float32 if sizes.bytes_per_parameter > 2 else torch.bfloat16
    where: dict[str, Any] = {"device": device, "dtype": kind}
    flops, read = _products(sizes, device, where)
    return Speed(
        flops=flops,
        narrow=_narrow(sizes, device, where),
        attention=_attention(sizes, device, where),
        bandwidth=_bandwidth(sizes, device, where),
        read=read,
        call=_call(device, where),
        process=0,
        overlaps=device.startswith("cuda"),
    )


def _products(sizes: Sizes, device: str, where: dict[str, Any]) -> tuple[float, float]:
    """Operations a second, and seconds a weight: of the line through the times for few rows and for many."""
    import torch

    shapes = list(dict.fromkeys(sizes.linear.values()))
    blocks = [[torch.randn(out, into, **where) for into, out in shapes] for _ in range(BLOCKS)]
    weights = sum(weight.numel() for block in blocks for weight in block)

    def taken(rows: int) -> float:
        inputs = [torch.randn(rows, into, **where) for into, _ in shapes]

        def products() -> None:
            for block in blocks:
                for weight, values in zip(block, inputs, strict=True):
                    torch.nn.functional.linear(values, weight)

        return _seconds(products, device)

    few, many = taken(FEW), taken(ROWS)
    a_row = max(many - few, many / 2) / (ROWS - FEW)  # a disturbed measurement must not turn the line over
    return 2 * weights / a_row, max(0.0, few - FEW * a_row) / weights


def _narrow(sizes: Sizes, device: str, where: dict[str, Any]) -> float:
    """Operations a second of an adapter's two products."""
    import torch

    shapes = list(dict.fromkeys(sizes.linear.values()))
    down = [torch.randn(NARROW, into, **where) for into, _ in shapes]
    up = [torch.randn(out, NARROW, **where) for _, out in shapes]
    inputs = [torch.randn(ROWS, into, **where) for into, _ in shapes]

    def products() -> None:
        for first, second, values in zip(down, up, inputs, strict=True):
            torch.nn.functional.linear(torch.nn.functional.linear(values, first), second)

    return 2 * ROWS * sum(weight.numel() for weight in (*down, *up)) / _seconds(products, device)


def _attention(sizes: Sizes, device: str, where: dict[str, Any]) -> float:
    """Operations a second of causal attention and its gradient: two products forward, five backward."""
    import torch

    shape = (ROWS // LENGTH, sizes.heads, LENGTH, sizes.head_size)
    queries, keys, values = (torch.randn(*shape, **where, requires_grad=True) for _ in range(3))

    def attend() -> None:
        found = torch.nn.functional.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        torch.autograd.grad(found, (queries, keys, values), found)

    return 14 * ROWS * LENGTH * sizes.heads * sizes.head_size / _seconds(attend, device)


def _bandwidth(sizes: Sizes, device: str, where: dict[str, Any]) -> float:
    """Bytes a second through products of values that are not near the processor, into memory that is there already."""
    import torch

    row = torch.randn(ROWS, sizes.intermediate, **where)
    count = max(4, min(32, BEYOND_CACHES // (row.numel() * row.element_size())))
    wide, results = ([row.clone() for _ in range(count)] for _ in range(2))

    def plain() -> None:
        for (one, other), result in zip(pairwise(wide), results, strict=False):
            torch.mul(one, other, out=result)

    return (count - 1) * 3 * row.numel() * row.element_size() / _seconds(plain, device)


def _call(device: str, where: dict[str, Any]) -> float:
    """Seconds of an operation with its gradient, of modules that compute next to nothing."""
    import torch

    width, depth = 8, 32
    layers = [torch.nn.Linear(width, width, bias=False, **where) for _ in range(depth)]
    scale = torch.ones(width, **where, requires_grad=True)
    values = torch.randn(1, 2, width, **where)
    trained = [scale, *(layer.weight for layer in layers)]

    def forward() -> Any:
        found = values
        for layer in layers:
            found = found + torch.nn.functional.silu(layer(found * scale)) * 0.5
        return found.sum()

    def step() -> None:
        torch.autograd.grad(forward(), trained)

    return _seconds(step, device) / _operations(forward())


def _operations(result: Any) -> int:
    """How many operations with a gradient a result comes from."""
    seen, left = set(), [result.grad_fn]
    while left:
        node = left.pop()
        if node is not None and node not in seen:
            seen.add(node)
            left += [before for before, _ in node.next_functions]
    return len(seen)


def keep(cache: Path, sizes: Sizes, device: str, threads: int, speed: Speed) -> None:
    """Keep a measurement for later plans."""
    cache.mkdir(parents=True, exist_ok=True)
    write_json(cache / FILE, {**parsed_file(cache / FILE), _key(sizes, device, threads): asdict(speed)})


def _seconds(run: Callable[[], object], device: str) -> float:
    """The mean time of a call, after two to warm up: what disturbs some of them disturbs training as well."""
    import torch

    def finish() -> None:
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)

    for _ in range(2):
        run()
    finish()
    count, begun = 0, time.perf_counter()
    while (taken := time.perf_counter() - begun) < SECONDS or count < 5:
        run()
        finish()
        count += 1
    return taken / count


def _key(sizes: Sizes, device: str, threads: int) -> str:
    """Whatever a speed depends on: processor, torch, device, threads, and the shapes."""
    try:
        torch: Any = metadata.version("torch")
    except metadata.PackageNotFoundError:
        torch = "none"
    shapes = f"{sizes.hidden}x{sizes.intermediate}x{sizes.bytes_per_parameter:g}"
    return f"{platform.node()} {platform.machine()} {os.cpu_count()} torch-{torch} {device} {threads} {shapes}"
