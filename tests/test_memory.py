"""The peak of memory: of the process itself, and of a GPU where the model is on one."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

from tunesmith.memory import peak_memory

SIZE = 2**27
PROGRAM = f"""
import subprocess, sys
from tunesmith.memory import peak_memory, peak_resident
before = peak_resident()
held = bytearray({SIZE})
held[::4096] = b"x" * len(held[::4096])
child = "from tunesmith.memory import peak_resident; print(peak_resident())"
print(subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, check=True).stdout.strip())
del held
print(before, peak_resident(), peak_memory("cpu"))
"""


def test_the_peak_is_the_process_s_own_and_stays() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    child, (before, after, memory) = done.stdout.split("\n")[0], done.stdout.split("\n")[1].split(" ", 2)
    # what was free below the first peak is used again, so a little less than SIZE comes on top
    assert 0.9 * SIZE < int(after) - int(before) < 1.5 * SIZE
    assert 2**20 < int(child) < SIZE  # though its parent held more when it began it
    assert memory == str({"bytes": int(after), "of": "process"})


def test_on_a_gpu_it_is_that_of_the_tensors_there(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def allocated(device: str) -> int:
        asked.append(device)
        return 7

    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=SimpleNamespace(max_memory_allocated=allocated)))  # type: ignore[arg-type]
    assert peak_memory("cuda:1") == {"bytes": 7, "of": "cuda:1"}
    assert asked == ["cuda:1"]
