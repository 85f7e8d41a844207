"""QLoRA beside LoRA on the embedded model: held-out perplexity after the same steps, speed and memory as ratios.

Run: python tests/bench/qlora.py [STEPS] [ROWS] [SOURCE]
STEPS of 8 rows of the docstrings (default 10), evaluated on ROWS held-out rows (default 48) before and after, the
same rows in the same order. Each runs in a process of its own. Needs tunesmith-qlora.
"""

from __future__ import annotations

import sys
from typing import Any

from one_run import MODEL, measured


def recipe(steps: int, rows: int, source: str) -> dict[str, Any]:
    """What both sides share."""
    return {
        "run": {"device": "cpu"},
        "model": {"source": source},
        "data": {"use": "docstrings", "validation": 0.1},
        "adapter": {"use": "lora", "rank": 16},
        "trainer": {"use": "sft", "learning_rate": 1e-3, "max_steps": steps, "batch_size": 8},
        "evaluate": [{"use": "perplexity", "rows": rows}],
    }


def main(steps: int, rows: int, source: str) -> None:
    shared = recipe(steps, rows, source)
    sides = {"LoRA": measured("run", shared), "QLoRA": measured("run", {**shared, "preset": "qlora"})}
    print("| | before | 95 % interval | after | 95 % interval | tokens/s | peak memory | bits a parameter |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, found in sides.items():
        before, after, bits = found["before"], found["after"], found["quantization"]
        print(
            f"| {name} | {before['value']:.2f} | {before['low']:.2f} to {before['high']:.2f} "
            f"| {after['value']:.2f} | {after['low']:.2f} to {after['high']:.2f} "
            f"| {found['tokens_per_second']:.1f} | {found['memory']['bytes'] / 2**20:.0f} MiB "
            f"| {bits['bits_a_parameter_of_the_model'] if bits else 32:.2f} |"
        )
    lora, qlora = sides["LoRA"], sides["QLoRA"]
    print(
        f"{steps} steps, {lora['after']['n']} held-out rows: the gap of the bases is "
        f"{qlora['before']['value'] / lora['before']['value'] - 1:+.1%}, after training "
        f"{qlora['after']['value'] / lora['after']['value'] - 1:+.1%}; QLoRA trains at "
        f"{qlora['tokens_per_second'] / lora['tokens_per_second']:.2f} of LoRA's tokens/s"
    )
    for note in qlora["notes"]:
        print(f"plan: {note}")


if __name__ == "__main__":
    given = sys.argv[1:]
    main(int(given[0]) if given else 10, int(given[1]) if len(given) > 1 else 48, given[2] if len(given) > 2 else MODEL)
