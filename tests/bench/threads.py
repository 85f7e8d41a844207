"""What spinning OpenMP threads cost, alone and on a busy machine (docs/decisions/0008).

Run: python tests/bench/threads.py [ROUNDS]
Times 4,000 small matrix products (16 x 576 by 576 x 576, a token's decoding) and 600 large ones (1000 x 576 by
576 x 576) in a process of their own, with OpenMP's default and with the console's setting, in turn, with and without
other processes, one a core, that keep the machine busy. Prints medians in seconds.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys

WORK = """
import time, torch
layers = [torch.nn.Linear(576, 576) for _ in range(200)]
for rows, repeats in ((16, 20), (1000, 3)):
    begun = time.perf_counter()
    with torch.inference_mode():
        for _ in range(repeats):
            x = torch.randn(rows, 576)
            for layer in layers:
                x = layer(x)
    print(time.perf_counter() - begun)
"""


def measure(spin: str | None) -> list[float]:
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    if spin:
        environment["GOMP_SPINCOUNT"] = spin
    done = subprocess.run([sys.executable, "-c", WORK], env=environment, capture_output=True, text=True, check=True)
    return [float(line) for line in done.stdout.split()]


def main(rounds: int) -> None:
    for beside in ("alone", "on a busy machine"):
        others = 0 if beside == "alone" else os.cpu_count() or 1
        busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(others)]
        try:
            found: dict[str | None, list[list[float]]] = {None: [], "10000": []}
            for _ in range(rounds):
                for spin, runs in found.items():
                    runs.append(measure(spin))
        finally:
            for process in busy:
                process.kill()
        for spin, runs in found.items():
            small, large = (statistics.median(column) for column in zip(*runs, strict=True))
            print(f"{beside:22} {'default' if spin is None else 'quiet':8} small {small:6.2f} s   large {large:6.2f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
