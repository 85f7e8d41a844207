"""Wall time and peak memory of the demo, after set-up. Run: python tests/bench/demo.py [RECIPE]"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from pathlib import Path

RECIPE = Path(__file__).parents[2] / "docs" / "examples" / "docstrings.toml"

if __name__ == "__main__":
    recipe = sys.argv[1] if len(sys.argv) > 1 else str(RECIPE)
    begun = time.perf_counter()
    code = subprocess.run([str(Path(sys.executable).with_name("tunesmith")), "run", recipe], check=False).returncode
    seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"exit {code}   {seconds:.0f} s   peak {peak:.0f} MiB")
