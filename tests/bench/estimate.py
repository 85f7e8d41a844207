"""Estimates of memory and time beside what a few real steps take: LoRA, full and QLoRA at two batch sizes.

Run: python tests/bench/estimate.py [CASE-BATCH ...], such as lora-2; all six without an argument. Each case is one
`tunesmith plan --probe` of docs/examples/docstrings.toml, one after another.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

RECIPE = Path(__file__).parents[2] / "docs" / "examples" / "docstrings.toml"
CASES = {
    "lora": (),
    "full": ('adapter={use="full"}',),
    "qlora": ('quantizer={use="nf4"}',),
}
SIZES = (2, 8)
UNITS = {"bytes": (1e6, "MB"), "seconds": (1.0, "s")}


def main(names: list[str]) -> None:
    """Print one line a figure."""
    wanted = names or [f"{case}-{size}" for case in CASES for size in SIZES]
    print("| case | what | estimate | measured | difference |\n| --- | --- | --- | --- | --- |", flush=True)
    for name in wanted:
        case, _, size = name.rpartition("-")
        sets = [f"--set={item}" for item in (*CASES[case], f"trainer.batch_size={size}")]
        command = [str(Path(sys.executable).with_name("tunesmith")), "plan", str(RECIPE), "--probe", "--json", *sets]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{name}: {done.stderr.strip()[-1500:]}")
        (stage,) = json.loads(done.stdout)["stages"]
        for row in stage["estimate"]["measured"]:
            scale, unit = UNITS[row["unit"]]
            told, found = row["estimate"] / scale, row["measured"] / scale
            figures = f"{told:,.4g} {unit} | {found:,.4g} {unit} | {row['difference']:+.1%}"
            print(f"| {name} | {row['what']} | {figures} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
