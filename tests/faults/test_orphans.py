"""SIGKILL of a command that has processes of its own: none of them goes on, and the same command does."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from faults.battery import EVERYTHING, Recorder, amount
from tunesmith.children import GRACE

pytestmark = [pytest.mark.run, pytest.mark.fault("R24")]

PROGRAM = "import sys; from tunesmith.console import main; sys.exit(main(sys.argv[1:]))"
TOY = Path(__file__).parents[1] / "test_console_toy.py"
TOY_RECIPE = f"""\
plugins = ["{TOY}", "waits.py"]
model = {{source = "toy:one"}}
data = {{use = "pairs", path = "pairs.txt"}}
adapter = {{use = "move"}}
trainer = {{use = "pull"}}
evaluate = [{{use = "distance"}}]
"""
TOY_PAIRS = "".join(f"question {number}|answer {number}\n" for number in range(8))
ADAPTERS = '\n[[compare.adapters]]\nuse = "move"\n'
WAITS = """
import os, time
from pathlib import Path
from tunesmith import hookimpl


@hookimpl
def {hook}(**about):
    Path("here").write_text(str(os.getpid()))
    while Path("wait").exists():
        {wait}
"""
STEP = ("in a step", "time.sleep(0.05); break", 3.0)
DEAF = ("where no signal is heard", "import signal; signal.signal(15, signal.SIG_IGN); time.sleep(60)", GRACE + 3.0)
SEARCH = {"use": "optuna", "trials": 2, "space": {"trainer.learning_rate": {"low": 0.001, "high": 0.01}}}
COMPARE = {"adapters": [{"use": "lora", "rank": 2}, {"use": "lora", "rank": 4}]}


def processes(folder: Path) -> list[int]:
    """The processes that work in a folder, or were told of it; zombies are none."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            told = str(folder) in (place / "cmdline").read_text() or (place / "cwd").resolve().is_relative_to(folder)
            zombie = (place / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
        except OSError:
            continue  # gone, or not ours
        if told and not zombie and int(place.name) != os.getpid():
            found.append(int(place.name))
    return found


def ended(folder: Path, patience: float) -> list[int]:
    """Processes in a folder that are still there after so many seconds."""
    until = time.monotonic() + patience
    while (left := processes(folder)) and time.monotonic() < until:
        time.sleep(0.05)
    return left


def start(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    names = [point.name for point in metadata.entry_points(group="tunesmith")]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}
    if TOY.name in (folder / "recipe.toml").read_text():
        environment["TUNESMITH_DISABLE"] = ",".join(names)
    with (folder / "said").open("ab") as said:
        return subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *words], cwd=folder, env=environment, stdout=said, stderr=said
        )


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for processes in /proc")
@pytest.mark.parametrize(
    ("what", "wait", "patience"),
    amount((STEP, DEAF), (STEP,)),
)
def test_no_child_of_a_comparison_outlives_it(
    tmp_path: Path, fault: Recorder, what: str, wait: str, patience: float
) -> None:
    count = fault("R24", f"`compare`, its child {what}")
    for number in range(amount(6, 1)):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "pairs.txt").write_text(TOY_PAIRS)
        (folder / "recipe.toml").write_text(TOY_RECIPE + ADAPTERS)
        (folder / "waits.py").write_text(WAITS.format(hook="tunesmith_step", wait=wait))
        (folder / "wait").touch()
        with count.trial(str(number)):
            parent = start(folder, "compare", "recipe.toml")
            until = time.monotonic() + 60
            while not (folder / "here").exists() and parent.poll() is None and time.monotonic() < until:
                time.sleep(0.01)
            assert (folder / "here").exists(), (folder / "said").read_text()
            parent.send_signal(signal.SIGKILL)
            parent.wait()
            left = ended(folder, patience)
            for one in left:
                os.kill(one, signal.SIGKILL)
            assert not left
            (folder / "wait").unlink()
            assert start(folder, "compare", "recipe.toml").wait() == 0, (folder / "said").read_text()[-2000:]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for processes in /proc")
@pytest.mark.parametrize("words", amount((("plan", "--probe"), ("compare",), ("search",)), (("plan", "--probe"),)))
def test_nothing_trains_when_the_command_is_gone(lean: Any, fault: Recorder, words: tuple[str, ...]) -> None:
    lean.content["trainer"] |= {"max_steps": 6, "save_steps": 2}
    lean.content |= {"evaluate": [{"use": "perplexity"}], "search": SEARCH, "compare": COMPARE}
    lean.content["data"]["validation"] = 0.25
    lean.recipe()
    count = fault("R24", f"`{' '.join(words)}`, at a random time")
    chosen = random.Random(5)
    for _ in range(amount(6, 1)):
        moment = chosen.uniform(2, amount(40.0, 3.0))
        with count.trial(f"after {moment:.1f} s"):
            parent = start(lean.folder, words[0], "recipe.toml", *words[1:])
            try:
                parent.wait(moment)
            except subprocess.TimeoutExpired:
                parent.send_signal(signal.SIGKILL)
                parent.wait()
            left = ended(lean.folder, GRACE + 5)
            for one in left:
                os.kill(one, signal.SIGKILL)
            assert not left
    if not EVERYTHING:
        return
    with count.trial("and to the end"):
        assert start(lean.folder, words[0], "recipe.toml", *words[1:]).wait() == 0
        states = [json.loads(path.read_text()) for path in lean.runs.glob("*/*/state.json")]
        assert all(state["status"] in ("done", "stopped", "running") for state in states)
        assert not list(lean.folder.rglob("jobs/.staging-*"))
