"""SIGINT, SIGTERM and SIGHUP: what was done is committed, the exit code says so, and the run can go on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from faults.battery import Recorder
from faults.lost import NothingLost, phase, steps, until
from faults.victims import PATIENCE, Victims
from tunesmith.store import checkpoint_step, checkpoints

pytestmark = [pytest.mark.run, pytest.mark.fault("R16", "R17")]


def test_signals_stop_a_run_that_can_go_on(house: Any, victims: Victims, fault: Recorder) -> None:
    count = fault("R17", "one, in a step")
    recipe = house.recipe({"trainer.max_steps": 60, "trainer.save_steps": 50})
    assert victims.run("run", recipe) == 0, victims.said()
    promise = NothingLost(house.runs / "recipe-001", 50)
    run = house.runs / "recipe-002"
    pid = victims.start("run", recipe)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        goal = len(steps(run)) + 4
        until(lambda goal=goal: phase(run) == "train" and len(steps(run)) >= goal)  # type: ignore[misc]
        os.kill(pid, number)
        with count.trial(number.name):
            assert victims.wait(pid) == 128 + number, victims.said()
            assert "everything is saved" in victims.said()
            assert f"tunesmith resume {run}" in victims.said()
            assert "Traceback" not in victims.said()
            assert json.loads((run / "state.json").read_text())["status"] == "stopped"
            assert checkpoint_step(checkpoints(run / "checkpoints")[-1]) == len(steps(run)) < 60
            promise.at_the_fault(run)
        pid = victims.start("resume", run)
    assert victims.wait(pid) == 0, victims.said()
    promise.at_the_end(run)


def test_the_installed_command_stops_on_ctrl_c_and_is_alone_in_its_folder(
    house: Any, victims: Victims, fault: Recorder
) -> None:
    recipe = house.recipe({"trainer.max_steps": 120, "trainer.save_steps": 500})
    command = Path(sys.executable).with_name("tunesmith")
    run = house.runs / "recipe-001"
    process = subprocess.Popen([command, "run", recipe], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until(lambda: len(steps(run)) >= 2)
    with fault("R16", "a second process while the first one trains").trial("resume"):
        second = house.call("resume", run)
        assert second.code == 75
        assert f"held by process {process.pid} on " in second.err
        assert (second.out, "Traceback" in second.err) == ("", False)
        listed = house.call("runs", house.runs, "--json")
        assert [found["status"] for found in json.loads(listed.out)] == ["running"]
    with fault("R17", "Ctrl-C, the installed command").trial("SIGINT"):
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 130, err
        assert "everything is saved" in err
        assert (out, "Traceback" in err) == ("", False)
        assert victims.run("resume", run) == 0, victims.said()
        assert steps(run) == list(range(1, 121))
