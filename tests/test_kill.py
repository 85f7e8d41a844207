"""Real processes that are killed, told to stop, or run out of disk: nothing is lost and nothing looks done."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tunesmith.store import checkpoint_step, checkpoints, damage

pytestmark = pytest.mark.run

STEPS = 20
PATIENCE = 120.0  # seconds until a process that does not get on fails the test


class Victims:
    """Starts console commands as processes of their own, without the wait for imports."""

    def __init__(self, log: Path) -> None:
        self.log = log
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        command = [sys.executable, str(Path(__file__).with_name("victims.py"))]
        self.parent = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        assert self._answer() == "ready"

    def start(self, *words: str | Path) -> int:
        return int(self._ask("start", str(self.log), [str(word) for word in words]))

    def wait(self, pid: int) -> int:
        return int(self._ask("wait", pid))

    def run(self, *words: str | Path) -> int:
        return self.wait(self.start(*words))

    def said(self) -> str:
        return self.log.read_text()

    def close(self) -> None:
        assert self.parent.stdin is not None
        self.parent.stdin.close()
        self.parent.wait(PATIENCE)

    def _ask(self, *order: Any) -> str:
        assert self.parent.stdin is not None
        self.parent.stdin.write(json.dumps(order) + "\n")
        self.parent.stdin.flush()
        return self._answer()

    def _answer(self) -> str:
        assert self.parent.stdout is not None
        return self.parent.stdout.readline().strip()


@pytest.fixture(scope="module")
def victims(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victims]:
    made = Victims(tmp_path_factory.mktemp("victims") / "log")
    yield made
    made.close()


# --- looking at a run ----------------------------------------------------------------------------
def steps(run: Path) -> list[int]:
    """The steps in the metrics log, without a last line that is cut."""
    path = run / "metrics.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [json.loads(line)["step"] for line in lines if line]


def phase(run: Path) -> str:
    path = run / "events.jsonl"
    found = [json.loads(line) for line in path.read_text().split("\n")[:-1] if line] if path.exists() else []
    return next((event["phase"] for event in reversed(found) if event["event"] == "phase"), "")


def until(true: Callable[[], bool]) -> None:
    limit = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < limit, "the process does not get on"
        time.sleep(0.001)


def weights(run: Path) -> dict[str, str]:
    files = sorted((run / "artifact").glob("*.safetensors"))
    assert files
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in files}


def whole(run: Path, expected: dict[str, str], count: int = STEPS) -> None:
    """What must hold at the end of a run, however often it was interrupted."""
    assert json.loads((run / "state.json").read_text())["status"] == "done"
    assert steps(run) == list(range(1, count + 1))
    assert not list(run.rglob(".staging-*"))
    assert not damage(run / "artifact")
    assert weights(run) == expected


def kill_at_random(victims: Victims, pid: int, run: Path, chance: random.Random, where: str) -> bool:
    """SIGKILL somewhere within some step, its saving included, or within a later phase; False when it came too late."""
    if where == "train":
        goal = min(max([0, *steps(run)]) + chance.randint(1, 3), STEPS - 1)
        until(lambda: phase(run) == "train" and max([0, *steps(run)]) >= goal)
        time.sleep(chance.uniform(0, 0.06))
    else:
        until(lambda: phase(run) in (where, "commit"))
        time.sleep(chance.uniform(0, 0.01))
    os.kill(pid, signal.SIGKILL)
    code = victims.wait(pid)
    assert code in (-signal.SIGKILL, 0), victims.said()
    return code != 0


def listed(house: Any) -> list[dict[str, Any]]:
    ended = house.call("runs", house.runs, "--json")
    assert ended.code == 0, ended.err
    return json.loads(ended.out)


# --- SIGKILL -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("adapter", "save_steps"), [({"use": "lora", "rank": 4, "dropout": 0.1}, 1), ({"use": "full"}, 2)], ids=str
)
def test_a_killed_run_ends_as_if_it_had_not_been(
    house: Any, victims: Victims, adapter: dict[str, Any], save_steps: int
) -> None:
    recipe = house.recipe({"adapter": adapter, "trainer.max_steps": STEPS, "trainer.save_steps": save_steps})
    assert victims.run("run", recipe) == 0, victims.said()
    untouched, killed = house.runs / "recipe-001", house.runs / "recipe-002"
    expected = weights(untouched)
    whole(untouched, expected)
    chance = random.Random()
    pid = victims.start("run", recipe)
    kills = 0
    for where in ("train", "train", "train", "train", "evaluate after", "commit"):
        if not kill_at_random(victims, pid, killed, chance, where):
            break
        kills += 1
        kept = checkpoints(killed / "checkpoints")
        last = max([0, *steps(killed)])
        assert last - (checkpoint_step(kept[-1]) if kept else 0) <= save_steps
        assert not [problem for path in kept for problem in damage(path)]
        status = [run["status"] for run in listed(house)]
        assert status == ["done", "interrupted"]
        assert listed(house)[1]["next"].startswith("tunesmith resume ")
        pid = victims.start("resume", killed)
    else:
        assert victims.wait(pid) == 0, victims.said()
    assert kills >= 4
    whole(killed, expected)
    whole(untouched, expected)
    first, second = (json.loads((run / "results.json").read_text())["main"] for run in (untouched, killed))
    assert second["training"]["metrics"] == pytest.approx(first["training"]["metrics"])
    assert second["before"] == first["before"]
    assert second["after"] == first["after"]


# --- signals -------------------------------------------------------------------------------------
def test_signals_stop_a_run_that_can_go_on(house: Any, victims: Victims) -> None:
    recipe = house.recipe({"trainer.max_steps": 60, "trainer.save_steps": 50})
    assert victims.run("run", recipe) == 0, victims.said()
    stopped = house.runs / "recipe-002"
    pid = victims.start("run", recipe)
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        goal = len(steps(stopped)) + 4
        until(lambda goal=goal: phase(stopped) == "train" and len(steps(stopped)) >= goal)  # type: ignore[misc]
        os.kill(pid, number)
        assert victims.wait(pid) == 128 + number, victims.said()
        assert "everything is saved" in victims.said()
        assert f"tunesmith resume {stopped}" in victims.said()
        assert "Traceback" not in victims.said()
        assert json.loads((stopped / "state.json").read_text())["status"] == "stopped"
        assert checkpoint_step(checkpoints(stopped / "checkpoints")[-1]) == len(steps(stopped)) < 60
        pid = victims.start("resume", stopped)
    assert victims.wait(pid) == 0, victims.said()
    whole(stopped, weights(house.runs / "recipe-001"), 60)


def test_the_installed_command_stops_on_ctrl_c_and_is_alone_in_its_folder(house: Any, victims: Victims) -> None:
    recipe = house.recipe({"trainer.max_steps": 120, "trainer.save_steps": 500})
    command = Path(sys.executable).with_name("tunesmith")
    run = house.runs / "recipe-001"
    process = subprocess.Popen([command, "run", recipe], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until(lambda: len(steps(run)) >= 2)
    second = house.call("resume", run)
    assert second.code == 75
    assert f"held by process {process.pid} on " in second.err
    assert (second.out, "Traceback" in second.err) == ("", False)
    assert [found["status"] for found in listed(house)] == ["running"]
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130, err
    assert "everything is saved" in err
    assert (out, "Traceback" in err) == ("", False)
    assert victims.run("resume", run) == 0, victims.said()
    assert steps(run) == list(range(1, 121))


# --- disk full -----------------------------------------------------------------------------------
@pytest.mark.parametrize("size", ["500k", "1300k"])
def test_a_full_disk_is_named_and_the_run_goes_on_when_there_is_space(
    house: Any, victims: Victims, mounted: Callable[[str], Path], size: str
) -> None:
    disk = mounted(f"size={size}")
    house.content["adapter"] = {"use": "full"}
    recipe = house.recipe({"trainer.max_steps": 6})
    assert victims.run("run", recipe) == 0, victims.said()
    expected = weights(house.runs / "recipe-001")
    recipe = house.recipe({"trainer.max_steps": 6, "run.folder": str(disk / "runs")})
    run = disk / "runs" / "recipe-001"
    assert victims.run("run", recipe) == 74, victims.said()
    said = victims.said()
    assert f"cannot write {run}" in said
    assert "No space left on device" in said
    assert "free space there: " in said
    assert "Traceback" not in said
    assert json.loads((run / "state.json").read_text())["status"] in ("failed", "running")
    assert not (run / "artifact").exists()
    assert not [problem for path in checkpoints(run / "checkpoints") for problem in damage(path)]
    remount = [shutil.which("mount") or "mount", "-o", "remount,size=16m", str(disk)]
    subprocess.run(remount, check=True)
    assert victims.run("resume", run) == 0, victims.said()
    whole(run, expected, 6)
