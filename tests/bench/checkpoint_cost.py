"""What a durable checkpoint costs: beside a plain save of the same files, and in a run that makes one every 50 steps.

Run: python tests/bench/checkpoint_cost.py [ROUNDS]
Prints medians in milliseconds of a commit (staging folder, digests, fsync, rename, rotation) and of a plain save (the
same tensors and JSON, written into a folder and left to the system), made in turn; then the seconds of 100 steps of
SmolLM2-135M with LoRA with a checkpoint every 50 steps and with none but the last, in turn, and the share that commits
took of them.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from one_run import MODEL

SIZES = (4, 31, 250)  # MiB of tensors
STEPS, EVERY = 100, 50


def seconds(part: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    part()
    return time.perf_counter() - begun


def saves(size: int, rounds: int) -> None:
    """A commit beside a plain save of `size` MiB."""
    import torch

    from tunesmith.store import commit_folder, rotate
    from tunesmith_transformers.training.checkpoint import write_tensors

    # a third of a checkpoint is weights, two thirds are what Adam keeps of them
    third = {str(index): torch.randn(256, 1024) for index in range(max(1, size // 3))}
    rest = {f"{index}.{moment}": tensor for index, tensor in third.items() for moment in ("first", "second")}
    state = json.dumps({"step": 1, "random": list(range(625))})

    def write(folder: Path) -> None:
        write_tensors(folder / "model.safetensors", third)
        write_tensors(folder / "optimizer.safetensors", rest)
        (folder / "state.json").write_text(state)

    def plain(folder: Path) -> None:
        folder.mkdir()
        write(folder)

    def commit(folder: Path) -> None:
        commit_folder(folder, write)
        rotate(folder.parent, 2)

    with tempfile.TemporaryDirectory(dir=Path.cwd()) as place:
        durable, loose = Path(place) / "durable", Path(place) / "plain"
        durable.mkdir()
        loose.mkdir()
        took: dict[str, list[float]] = {"commit": [], "plain": []}
        for number in range(1, rounds + 1):
            name = f"step-{number:06d}"
            took["plain"].append(seconds(lambda name=name: plain(loose / name)))  # type: ignore[misc]
            took["commit"].append(seconds(lambda name=name: commit(durable / name)))  # type: ignore[misc]
            if number > 2:
                shutil.rmtree(loose / f"step-{number - 2:06d}")
    commit_ms, plain_ms = (1000 * statistics.median(took[kind]) for kind in ("commit", "plain"))
    print(f"{size:4} MiB   commit {commit_ms:7.1f} ms   plain {plain_ms:7.1f} ms   {commit_ms / plain_ms:.2f} times")


def training(save_steps: int) -> tuple[float, float]:
    """Seconds of `STEPS` steps, and of those the seconds that commits took."""
    from tunesmith.context import SilentReporter
    from tunesmith.plan import make_plan
    from tunesmith.recipe import Recipe
    from tunesmith.registry import Registry
    from tunesmith.run import start
    from tunesmith_transformers.training import durable

    spent = 0.0
    commit = durable.commit_folder

    def timed(*args: Any) -> Any:
        nonlocal spent
        begun = time.perf_counter()
        made = commit(*args)
        spent += time.perf_counter() - begun
        return made

    recipe = {
        "run": {"device": "cpu"},
        "model": {"source": MODEL},
        "data": {"use": "jsonl", "path": "rows.jsonl"},
        "adapter": {"use": "lora", "rank": 8},
        "trainer": {"use": "sft", "max_steps": STEPS, "save_steps": save_steps, "batch_size": 1, "max_length": 32},
    }
    registry = Registry.discover()
    durable.commit_folder = timed
    try:
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as place:
            folder = Path(place)
            lines = (json.dumps({"prompt": f"{n} and {n} make", "completion": f" {2 * n}."}) for n in range(200))
            (folder / "rows.jsonl").write_text("\n".join(lines))
            planned = make_plan(Recipe(recipe, folder / "recipe.toml"), registry)
            done = start(planned, registry, SilentReporter(), base=folder)
    finally:
        durable.commit_folder = commit
    return done.results["main"].training["seconds"], spent


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    for size in SIZES:
        saves(size, 7 * rounds)
    took: dict[int, list[tuple[float, float]]] = {EVERY: [], STEPS: []}
    for _ in range(rounds):
        for save_steps, found in took.items():
            found.append(training(save_steps))
    often, once = (statistics.median(total for total, _ in took[key]) for key in (EVERY, STEPS))
    share = statistics.median(spent / total for total, spent in took[EVERY])
    print(f"{STEPS} steps   a checkpoint every {EVERY}: {often:.2f} s   one at the end: {once:.2f} s   "
          f"{100 * (often / once - 1):+.1f} %   commits took {100 * share:.2f} % of the time")  # fmt: skip


if __name__ == "__main__":
    main()
