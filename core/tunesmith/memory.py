"""Peak memory: of a GPU where the model is on one, of this process otherwise."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

STATUS = Path("/proc/self/status")


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
