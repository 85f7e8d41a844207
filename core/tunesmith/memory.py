"""Peak memory: of a GPU where the model is on one, of this process otherwise."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

STATUS = Path("/proc/self/status")
GPU_SIGNS = (Path("/proc/driver/nvidia"), Path("/dev/nvidiactl"), Path("/dev/dxg"))
CGROUP = Path("/sys/fs/cgroup")


def peak_memory(device: str) -> dict[str, Any]:
    """The largest memory in use since this process began.

    Args:
        device: where the model is, in torch's names.

    Returns:
        `bytes`, and `of`: what they are the peak of. On CUDA these are the tensors allocated on that device
        (`torch.cuda.max_memory_allocated`), elsewhere the resident memory of the process.
    """
    torch: Any = sys.modules.get("torch")
    if device.startswith("cuda") and torch is not None:
        return {"bytes": int(torch.cuda.max_memory_allocated(device)), "of": device}
    return {"bytes": peak_resident(), "of": "process"}


def resident() -> int:
    """Resident bytes of this process now; the peak where the system does not tell the present."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return peak_resident()


def expected(device: str) -> str:
    """The device that a run will probably get, told without importing torch: `auto` is a GPU where a driver is."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1")
    if device != "auto":
        return device
    return "cuda" if not hidden and any(sign.exists() for sign in GPU_SIGNS) else "cpu"


def forget_peak() -> bool:
    """Let the peak of this process begin anew, where the system can; False where it cannot."""
    try:
        (STATUS.parent / "clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def keeps_freed() -> bool:
    """Whether the C library is glibc as it is, which keeps freed blocks of tensors in pieces between those in use.

    `MALLOC_MMAP_THRESHOLD_` in the environment, or the same in `GLIBC_TUNABLES`, lets them go back at once
    (docs/decisions/0022).
    """
    if "MALLOC_MMAP_THRESHOLD_" in os.environ or "mmap_threshold" in os.environ.get("GLIBC_TUNABLES", ""):
        return False
    try:
        return bool(os.confstr("CS_GNU_LIBC_VERSION"))
    except (AttributeError, ValueError, OSError):
        return False


def trim() -> bool:
    """Give what the C library has free back to the system, once; False where it cannot."""
    import ctypes

    try:
        return bool(ctypes.CDLL(None).malloc_trim(0))
    except (OSError, AttributeError, TypeError):  # another C library has no such call
        return False


def available(device: str) -> tuple[int, str] | None:
    """Bytes that a run may take on this machine, and what sets that bound; None where the system does not tell.

    Args:
        device: `cpu`, or a GPU in torch's names; a GPU's memory is told by torch, where that is loaded already.
    """
    torch: Any = sys.modules.get("torch")
    if device.startswith("cuda"):
        if torch is None or not torch.cuda.is_available():
            return None
        return int(torch.cuda.mem_get_info(device)[0]), f"free on {device}"
    found: list[tuple[int, str]] = []
    lines = _read(Path("/proc/meminfo"))
    if free := re.search(r"^MemAvailable:\s+(\d+) kB$", lines, re.MULTILINE):
        found.append((int(free[1]) * 1024, "available on this machine"))
    limit, used = _read(CGROUP / "memory.max").strip(), _read(CGROUP / "memory.current").strip()
    if limit.isdigit():
        cached = re.search(r"^inactive_file (\d+)$", _read(CGROUP / "memory.stat"), re.MULTILINE)
        taken = int(used) - int(cached[1] if cached else 0) if used.isdigit() else 0
        found.append((int(limit) - taken, "left under the limit of this container"))
    return min(found) if found else None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def peak_resident() -> int:
    """Largest resident memory of this process, in bytes.

    Linux hands `ru_maxrss` of a parent down to the program that it starts, so the process's own high-water mark
    is read where there is one.
    """
    try:
        found = re.search(r"^VmHWM:\s+(\d+) kB$", STATUS.read_text(encoding="ascii"), re.MULTILINE)
    except OSError:
        found = None
    if found:
        return int(found[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
