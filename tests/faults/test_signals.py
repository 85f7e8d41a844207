"""SIGINT, SIGTERM and SIGHUP in every phase: what was done is committed, the exit code says so, the run can go on."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from faults.battery import Recorder, amount
from faults.lost import NothingLost, status, steps, until
from faults.victims import PATIENCE, Victims
from tunesmith.store import checkpoint_step, checkpoints

pytestmark = pytest.mark.run

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
POINTS = {
    "data preparation": "phase load data",
    "loading the model": "phase load model",
    "evaluation before": "phase evaluate before",
    "a step": "micro 5",
    "the end of a step": "step 2",
    "a save": "saving step-000002",
    "evaluation after": "phase evaluate after",
    "the commit": "phase commit",
    "the commit of the artifact": "saving artifact",
    "an export": "phase export merge",
    "the report": "report",
}
QUICK = ("data preparation", "a save", "an export")


@pytest.mark.fault("R17")
def test_a_signal_in_every_phase(house: Any, victims: Victims, fault: Recorder) -> None:
    house.content["run"]["verdict"] = False
    house.content["trainer"] |= {"max_steps": 4, "save_steps": 2, "batch_size": 2, "gradient_accumulation_steps": 2}
    house.content["export"] = [{"use": "merge"}]
    recipe = house.recipe()
    assert victims.run("run", recipe) == 0, victims.said()
    promise = NothingLost(house.runs / "recipe-001", 2)
    number = 1
    for place, (phase, point) in enumerate((name, POINTS[name]) for name in amount(tuple(POINTS), QUICK)):
        for sent in amount(SIGNALS, SIGNALS[place % 3 :][:1]):
            twice = sent == SIGNALS[place % 3]
            for times in amount((1, 2) if twice else (1,), (1 + place % 2,)):
                number += 1
                run = house.runs / f"recipe-{number:03}"
                count = fault("R17", f"{'one signal' if times == 1 else 'two signals'}, in {phase}")
                with count.trial(sent.name):
                    code = victims.run("run", recipe, actions={point: ["send", *[sent] * times]})
                    stopped(run, code, sent, victims.said())
                    if times == 1 and phase in ("a step", "the end of a step", "a save"):
                        assert "everything is saved" in victims.said()
                        assert checkpoint_step(checkpoints(run / "checkpoints")[-1]) == max(steps(run))
                    promise.at_the_fault(run)
                    assert victims.run("resume", run) == 0, victims.said()
                    promise.at_the_end(run)


def stopped(run: Path, code: int, sent: int, said: str) -> None:
    """A run that was told to stop says that it stopped, by its exit code too, and how to go on."""
    assert code == 128 + sent, f"exit {code}: {said[-2000:]}"
    assert status(run) == "stopped"
    assert "tunesmith resume" in said
    assert "Traceback" not in said


@pytest.mark.fault("R16", "R17")
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
