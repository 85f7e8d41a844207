"""A disk that is full: the run says what it could not write, and goes on when there is space."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from faults.battery import Recorder
from faults.lost import NothingLost, status
from faults.victims import Victims

pytestmark = [pytest.mark.run, pytest.mark.fault("R4")]


@pytest.mark.parametrize("size", ["500k", "1300k"])
def test_a_full_disk_is_named_and_the_run_goes_on_when_there_is_space(
    house: Any, victims: Victims, fault: Recorder, mounted: Callable[[str], Path], size: str
) -> None:
    disk = mounted(f"size={size}")
    house.content["adapter"] = {"use": "full"}
    recipe = house.recipe({"trainer.max_steps": 6})
    assert victims.run("run", recipe) == 0, victims.said()
    promise = NothingLost(house.runs / "recipe-001", 1)
    recipe = house.recipe({"trainer.max_steps": 6, "run.folder": str(disk / "runs")})
    run = disk / "runs" / "recipe-001"
    with fault("R4", "a small disk while checkpoints are saved").trial(size):
        assert victims.run("run", recipe) == 74, victims.said()
        said = victims.said()
        assert f"cannot write {run}" in said
        assert "No space left on device" in said
        assert "free space there: " in said
        assert "Traceback" not in said
        assert status(run) in ("failed", "running")
        assert not (run / "artifact").exists()
        promise.at_the_fault(run)
        remount = [shutil.which("mount") or "mount", "-o", "remount,size=16m", str(disk)]
        subprocess.run(remount, check=True)
        assert victims.run("resume", run) == 0, victims.said()
        promise.at_the_end(run)
