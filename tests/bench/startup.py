"""What listing costs: `tunesmith --help` and `tunesmith plugins list` beside `python -c "import rich"`.

Run: make bench, or python tests/bench/startup.py [ROUNDS]
Prints medians of wall time in seconds and their ratio; the commands are run in turn, ROUNDS times each.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

TUNESMITH = str(Path(sys.executable).with_name("tunesmith"))
COMMANDS = {
    'python -c "import rich"': [sys.executable, "-c", "import rich"],
    "tunesmith --help": [TUNESMITH, "--help"],
    "tunesmith plugins list": [TUNESMITH, "plugins", "list"],
}


def main(rounds: int) -> None:
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds + 1):  # the first round warms the file cache and is not counted
        for name, command in COMMANDS.items():
            begun = time.perf_counter()
            subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
            seconds[name].append(time.perf_counter() - begun)
    medians = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    base = next(iter(medians.values()))
    for name, median in medians.items():
        print(f"{name:28} {median:6.3f} s   ratio {median / base:5.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
