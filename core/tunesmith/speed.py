"""What this machine does a second, measured once by `tunesmith plan --probe` and kept for later plans."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, replace
from importlib import metadata
from itertools import pairwise
from pathlib import Path
from typing import Any

from tunesmith.estimate import Sizes, Speed
from tunesmith.folder import parsed_file
from tunesmith.staging import alone
from tunesmith.store import write_json

#: Packs a weight of a shape (out, in) on a device and returns what unpacks it.
Unpack = Callable[[tuple[int, int], str], Callable[[], object]]

FILE = "speed.json"
ROWS = 512  # tokens of a product, about those of a small batch
FEW = 64  # tokens of another: what it takes longer than its share is what weights take to be read
NARROW = 16  # width of a narrow matrix, the usual rank of an adapter
LENGTH = 128  # tokens of a sequence in the attention that is measured
BLOCKS = 8  # at most, whose weights are read in turn, so that none is near the processor still
SECONDS = 0.4  # of each of the measurements
BEYOND_CACHES = 256 * 2**20  # bytes of all values that are read in turn, more than a processor keeps near it


def known(cache: Path, sizes: Sizes, device: str, threads: int, quantizer: str = "") -> Speed | None:
    """What was measured here for blocks of this width, if possible with this quantizer; None before it was."""
    kept = parsed_file(cache / FILE)
    for name in dict.fromkeys((quantizer, "")):
        found = kept.get(_key(sizes, device, threads, name))
        if isinstance(found, dict):
            with suppress(TypeError):  # another version wrote it
                return Speed(**found)
    return None


def measure(sizes: Sizes, device: str, unpack: Unpack | None = None) -> Speed:
    """Time what a training step is made of, in the shapes of a block. What a process takes is not looked at.

    Args:
        unpack: packs a weight of a shape (out, in) and returns what unpacks it, as `Quantizer.unpack` does.
    """
    import torch

    kind = torch.float32 if sizes.bytes_per_parameter > 2 else torch.bfloat16
    where: dict[str, Any] = {"device": device, "dtype": kind}
    flops, read = _products(sizes, device, where)
    narrow, narrow_read = _narrow(sizes, device, where)
    return Speed(
        flops=flops,
        narrow=narrow,
        attention=_attention(sizes, device, where),
        bandwidth=_bandwidth(sizes, device, where),
        read=read,
        narrow_read=narrow_read,
        call=_call(device, where),
        process=0,
        overlaps=device.startswith("cuda"),
        unpack=_unpack(sizes, device, unpack) if unpack else 0.0,
    )


def _line(taken: Callable[[int], float], weights: int, products: int) -> tuple[float, float]:
    """Operations a second, and seconds a weight and product: of the line through the times for few rows and for many.

    Args:
        taken: the time of some products with so many rows.
        weights: of these products together.
        products: how many there are with each weight.
    """
    few, many = taken(FEW), taken(ROWS)
    a_row = max(many - few, many / 2) / (ROWS - FEW)  # a disturbed measurement must not turn the line over
    return 2 * weights * products / a_row, max(0.0, few - FEW * a_row) / weights / products


def _products(sizes: Sizes, device: str, where: dict[str, Any]) -> tuple[float, float]:
    """The line of a block's own products."""
    import torch

    shapes = list(dict.fromkeys(sizes.linear.values()))
    block = sum(into * out for into, out in shapes)
    blocks = [[torch.randn(out, into, **where) for into, out in shapes] for _ in range(_copies(sizes, block))]

    def taken(rows: int) -> float:
        inputs = [torch.randn(rows, into, **where) for into, _ in shapes]

        def products() -> None:
            for block in blocks:
                for weight, values in zip(block, inputs, strict=True):
                    torch.nn.functional.linear(values, weight)

        return _seconds(products, device)

    return _line(taken, sum(weight.numel() for block in blocks for weight in block), 1)


def _narrow(sizes: Sizes, device: str, where: dict[str, Any]) -> tuple[float, float]:
    """The line of an adapter's products: two forward, two for the input's gradient, two for those of its matrices."""
    import torch

    shapes = list(dict.fromkeys(sizes.linear.values()))
    shapes *= _copies(sizes, ROWS * sum(into + out for into, out in shapes))
    down = [torch.randn(NARROW, into, **where) for into, _ in shapes]
    up = [torch.randn(out, NARROW, **where) for _, out in shapes]

    def taken(rows: int) -> float:
        inputs = [torch.randn(rows, into, **where) for into, _ in shapes]
        gradients = [torch.randn(rows, out, **where) for _, out in shapes]

        def products() -> None:
            for first, second, values, gradient in zip(down, up, inputs, gradients, strict=True):
                inner = torch.nn.functional.linear(values, first)
                torch.nn.functional.linear(inner, second)
                back = gradient @ second
                gradient.t() @ inner, back.t() @ values, back @ first

        return _seconds(products, device)

    return _line(taken, sum(weight.numel() for weight in (*down, *up)), 3)


def _unpack(sizes: Sizes, device: str, unpack: Unpack) -> float:
    """Seconds a weight of unpacking the weights of some blocks in turn."""
    shapes = [(out, into) for into, out in sizes.linear.values()]
    weights = sum(rows * columns for rows, columns in shapes)
    copies = _copies(sizes, weights)
    unpacking = [unpack(shape, device) for _ in range(copies) for shape in shapes]

    def all_of_them() -> None:
        for one in unpacking:
            one()

    return _seconds(all_of_them, device) / (copies * weights)


def _copies(sizes: Sizes, values: int) -> int:
    """How often so many values are made, to be read in turn: a large block is beyond the caches by itself."""
    return max(1, min(BLOCKS, int(BEYOND_CACHES / values / max(sizes.bytes_per_parameter, 2))))


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
    count = max(4, min(32, BEYOND_CACHES // (2 * row.numel() * row.element_size())))
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

    return _seconds(step, device) / operations(forward())


def operations(result: Any) -> int:
    """How many operations with a gradient a result comes from."""
    seen, left = set(), [result.grad_fn]
    while left:
        node = left.pop()
        if node is not None and node not in seen:
            seen.add(node)
            left += [before for before, _ in node.next_functions]
    return len(seen)


def keep(cache: Path, sizes: Sizes, device: str, threads: int, speed: Speed, quantizer: str = "") -> None:
    """Keep a measurement for later plans, of the same quantizer and, all but `unpack`, of any."""
    found = {_key(sizes, device, threads, ""): asdict(replace(speed, unpack=0.0))}
    found[_key(sizes, device, threads, quantizer)] = asdict(speed)
    cache.mkdir(parents=True, exist_ok=True)
    with alone(cache / FILE):
        write_json(cache / FILE, {**parsed_file(cache / FILE), **found})


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
    while (taken := time.perf_counter() - begun) < SECONDS or count < 3:
        run()
        finish()
        count += 1
    return taken / count


def _key(sizes: Sizes, device: str, threads: int, quantizer: str) -> str:
    """Whatever a speed depends on: processor, torch, device, threads, the shapes, and the quantizer."""
    try:
        torch: Any = metadata.version("torch")
    except metadata.PackageNotFoundError:
        torch = "none"
    shapes = f"{sizes.hidden}x{sizes.intermediate}x{sizes.bytes_per_parameter:g}"
    machine = f"{platform.node()} {platform.machine()} {os.cpu_count()} torch-{torch} {device} {threads} {shapes}"
    return f"{machine} {quantizer}".rstrip()
