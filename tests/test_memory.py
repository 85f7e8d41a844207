"""The peak of memory: of the process itself, and of a GPU where the model is on one."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from tunesmith.memory import keeps_freed, peak_memory

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

FREED = """
from tunesmith.memory import resident, trim
del [bytearray(2**23)][0]  # from here on glibc takes blocks of up to 8 MiB from its heap
before = resident()
blocks, kept = [], []
for _ in range(200):
    blocks.append(bytearray(b"x" * 2**20))
    kept.append(bytearray(50_000))
del blocks
held = resident() - before
print(held, trim(), resident() - before)
"""


@pytest.mark.skipif(not keeps_freed(), reason="the C library is not glibc as it is by default")
def test_glibc_holds_freed_blocks_back_until_it_is_asked() -> None:
    """The lumps that are kept lie between the blocks that are freed, as activations and what is made of them do."""

    def held(**environment: str) -> list[str]:
        command = [sys.executable, "-c", FREED]
        found = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=True)
        return found.stdout.split()

    before, trimmed, after = held()
    assert int(before) > 2**27
    assert trimmed == "True"
    assert int(after) < 2**25
    assert int(held(MALLOC_MMAP_THRESHOLD_="262144")[0]) < 2**25


def test_what_the_environment_sets_of_it_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "confstr", lambda name: "glibc 2.36")
    assert keeps_freed()
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.mmap_threshold=262144")
    assert not keeps_freed()
    monkeypatch.delenv("GLIBC_TUNABLES")
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "262144")
    assert not keeps_freed()


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
