"""Disks that fail: full, out of quota or damaged, at each call of a save and at each thing that a run writes."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from faults.battery import Recorder, amount
from faults.calls import CHANGING, brink
from faults.lost import NothingLost, status
from faults.saves import SAVES, Saves, each_call
from faults.victims import Victims

pytestmark = pytest.mark.run

WRITING = {"write", "fsync", "ftruncate", "mkdir", "rename", "renameat"}
ERRORS = ("ENOSPC", "EIO", "EDQUOT")


@pytest.mark.fault("R5")
def test_an_error_at_every_write_and_flush_of_a_save(lean: Any, victims: Victims, fault: Recorder) -> None:
    save = "a later checkpoint, LoRA"
    adapter, (begin, end) = SAVES[save]
    stage = Saves(lean, victims, adapter)
    counts = {name: fault("R5", f"{name} while saving {save}") for name in ERRORS}
    with brink(victims, ["run", stage.recipe], stage.run, begin, lean.folder / "brink", end) as at:
        calls = [(name, number) for name, number in each_call(at) if name in WRITING]
        for place, (name, number) in enumerate(calls[:: amount(1, 9)]):
            for error in amount(ERRORS if name in ("write", "fsync") else ERRORS[:1], ERRORS[place % 3 :][:1]):
                code = at.go("-e", f"trace={','.join(CHANGING)}", "-e", f"inject={name}:error={error}:when={number}")
                with counts[error].trial(f"{name} {number}"):
                    if at.failed_to_print():
                        assert code == -9, f"exit {code}: a line that could not be printed ended the run"
                        stage.survives(stage.copy("unheard"))
                        continue
                    said = at.said()
                    assert code == 74, f"exit {code}: {said[-2000:]}"
                    told(said, stage.run, error)
                    left = stage.copy("failed")
                    assert status(left) in ("failed", "running")
                    stage.survives(left)


def told(said: str, place: Path, error: str = "ENOSPC") -> None:
    """The message names the path, what is wrong with the disk, what was needed and what is free."""
    assert f"cannot write {place}" in said, said[-2000:]
    assert os.strerror(getattr(errno, error)) in said
    assert "needed: " in said
    assert "free space there: " in said
    assert "Traceback" not in said


@pytest.mark.fault("R4")
@pytest.mark.parametrize(
    "where",
    [
        *("saving step-000002", "report"),
        *amount(("saving step-000001", "saving step-000003", "micro 3"), ()),
        *amount(("phase commit", "saving artifact", "phase export merge"), ()),
    ],
)
def test_a_disk_that_is_full_from_there_on(
    lean: Any, victims: Victims, fault: Recorder, mounted: Callable[[str], Path], where: str
) -> None:
    what = "the metrics log" if where.startswith("micro") else where.removeprefix("phase ").removeprefix("saving ")
    count = fault("R4", f"a small disk that is full at {what}")
    disk = mounted("size=16m")
    lean.content["trainer"] |= {"max_steps": 4, "save_steps": 1}
    lean.content["export"] = [{"use": "merge"}]
    assert victims.run("run", lean.recipe()) == 0, victims.said()
    promise = NothingLost(lean.runs / "recipe-001", 1)
    recipe = lean.recipe({"run.folder": str(disk / "runs")})
    run = disk / "runs" / "recipe-001"
    with count.trial(where):
        code = victims.run("run", recipe, actions={where: ["fill", str(disk / "filler")]})
        said = victims.said()
        assert code == 74, f"exit {code}: {said[-2000:]}"
        told(said, run)
        assert "could not be updated" not in said
        assert status(run) == "failed"
        promise.at_the_fault(run)
        (disk / "filler").unlink()
        assert victims.run("resume", run) == 0, victims.said()
        promise.at_the_end(run)


@pytest.mark.fault("R4")
@pytest.mark.parametrize("size", amount(["500k", "900k", "1300k", "2000k"], ["1300k"]))
def test_a_disk_that_is_too_small(
    lean: Any, victims: Victims, fault: Recorder, mounted: Callable[[str], Path], size: str
) -> None:
    disk = mounted(f"size={size}")
    lean.content["adapter"] = {"use": "full"}
    lean.content["trainer"] |= {"max_steps": 6, "save_steps": 1, "save_total_limit": 5}
    assert victims.run("run", lean.recipe()) == 0, victims.said()
    promise = NothingLost(lean.runs / "recipe-001", 1)
    recipe = lean.recipe({"run.folder": str(disk / "runs")})
    run = disk / "runs" / "recipe-001"
    with fault("R4", "a disk too small for the checkpoints, full").trial(size):
        assert victims.run("run", recipe) == 74, victims.said()
        told(victims.said(), run)
        assert status(run) == "failed"
        assert not (run / "artifact").exists()
        promise.at_the_fault(run)
        remount = [shutil.which("mount") or "mount", "-o", "remount,size=16m", str(disk)]
        subprocess.run(remount, check=True)
        assert victims.run("resume", run) == 0, victims.said()
        promise.at_the_end(run)
