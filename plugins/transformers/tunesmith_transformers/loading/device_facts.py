"""What the device can do, told without importing torch, so that a plan may say it before anything is loaded."""

from __future__ import annotations

import os
import re
from importlib.util import find_spec
from pathlib import Path

CPU_FLAGS = Path("/proc/cpuinfo")
GPU_SIGNS = (Path("/proc/driver/nvidia"), Path("/dev/nvidiactl"), Path("/dev/dxg"))


def expected_device(wanted: str) -> str:
    """The kind of device that a run will get: `auto` is the GPU where there is one that torch was built for."""
    if wanted != "auto":
        return wanted.partition(":")[0]
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1")
    return "cuda" if torch_has_cuda() and not hidden and any(sign.exists() for sign in GPU_SIGNS) else "cpu"


def torch_has_cuda() -> bool:
    """Whether the installed torch was built with CUDA, read from its version file."""
    spec = find_spec("torch")
    if spec is None or not spec.submodule_search_locations:
        return False
    version = Path(spec.submodule_search_locations[0]) / "version.py"
    try:
        text = version.read_text(encoding="utf-8")
    except OSError:
        return False
    return re.search(r"^cuda\b[^=\n]*=\s*['\"]", text, re.MULTILINE) is not None


def cpu_lacks(dtype: str) -> bool:
    """Whether this CPU has no units for a 16-bit type; False where the system does not tell.

    Without them bfloat16 is about 25 times slower than float32, and float16 slower still.
    """
    if dtype == "float32":
        return False
    try:
        text = CPU_FLAGS.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    flags = set(text.partition("\nflags")[2].partition("\n")[0].split())
    if not flags:  # another architecture names its units otherwise
        return False
    units = {"bfloat16": ("avx512_bf16", "amx_bf16"), "float16": ("avx512_fp16", "amx_fp16")}
    return not flags & set(units[dtype])
