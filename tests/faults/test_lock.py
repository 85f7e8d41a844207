"""Two processes and one run folder: one has it, the other is told who and exits with 75."""

from __future__ import annotations

import json
import os
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

from faults.battery import Recorder, amount
from faults.lost import NothingLost
from faults.victims import Victims

pytestmark = [pytest.mark.run, pytest.mark.fault("R16")]


def test_of_two_that_want_a_run_one_gets_it(lean: Any, victims: Victims, fault: Recorder) -> None:
    lean.content["trainer"] |= {"max_steps": 4, "save_steps": 1}
    recipe = lean.recipe()
    assert victims.run("run", recipe) == 0, victims.said()
    promise = NothingLost(lean.runs / "recipe-001", 1)
    assert victims.run("run", recipe, actions={"step 2": ["send", 9]}) == -9
    killed = lean.runs / "recipe-002"
    pairs = fault("R16", "two `resume` of one run, started together")
    for number in range(amount(20, 1)):
        run = lean.folder / "trials" / f"recipe-{number:03}"
        shutil.copytree(killed, run)
        with pairs.trial(run.name):
            pids = [victims.start("resume", run) for _ in range(2)]
            logs = dict(zip(pids, (victims.logs / str(victims.started - 1), victims.log), strict=True))
            ended = {victims.wait(pid): pid for pid in pids}
            assert sorted(ended) == [0, 75], [log.read_text()[-1000:] for log in logs.values()]
            said = logs[ended[75]].read_text()
            assert f"held by process {ended[0]} on {socket.gethostname()} since 20" in said, said
            assert "Traceback" not in said
            promise.at_the_end(run)

    stale = fault("R16", "a lock that nobody holds any more")
    for what, text in {
        "its process is gone": json.dumps({"pid": 999999999, "host": socket.gethostname(), "start": "2020-01-01"}),
        "its process is another one now": json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "start": "?"}),
        "it is empty": "",
        "it is no JSON": "\x00{",
    }.items():
        with stale.trial(what):
            run = again(lean, killed, text)
            assert victims.run("resume", run) == 0, victims.said()
            promise.at_the_end(run)

    with fault("R16", "a lock of another machine").trial("another host"):
        run = again(lean, killed, json.dumps({"pid": 12, "host": "elsewhere", "start": "2031-02-03T04:05:06+00:00"}))
        assert victims.run("resume", run) == 75
        assert "held by process 12 on elsewhere since 2031-02-03T04:05:06+00:00" in victims.said()
        assert "remove the file `lock`" in victims.said()
        (run / "lock").unlink()
        assert victims.run("resume", run) == 0, victims.said()
        promise.at_the_end(run)


def test_runs_that_start_together_get_folders_of_their_own(lean: Any, victims: Victims, fault: Recorder) -> None:
    lean.content["trainer"] |= {"max_steps": 1, "save_steps": 1}
    recipe = lean.recipe()
    pairs = amount(5, 1)
    count = fault("R16", "two `run` of one recipe, started together")
    for pair in range(pairs):
        with count.trial(f"pair {pair}"):
            assert [victims.wait(pid) for pid in [victims.start("run", recipe) for _ in range(2)]] == [0, 0]
            assert len(list(lean.runs.iterdir())) == 2 * (pair + 1)
    assert {state["status"] for state in lean.states()} == {"done"}


def again(house: Any, killed: Path, lock: str) -> Path:
    """A copy of a killed run, with a lock of this text."""
    run = house.folder / "trials" / "again"
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(killed, run)
    (run / "lock").write_text(lock)
    assert json.loads((run / "state.json").read_text())["status"] == "running"
    return run
