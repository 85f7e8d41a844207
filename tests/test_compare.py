"""Comparisons of toy adapters: real child processes, milliseconds of training."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from tunesmith import Stopped, TunesmithError, compare
from tunesmith.comparison.driver import Relay
from tunesmith.comparison.job import Job
from tunesmith.plan import make_plan
from tunesmith.recipe import read
from tunesmith.registry import Registry

Output = tuple[int, str, str]
Call = Callable[..., Output]
TOY = Path(__file__).with_name("test_console_toy.py")
TABLE = """
[compare]
general = {use = "pairs", path = "pairs.txt"}
measure = {use = "distance", scale = 2}

[[compare.adapters]]
use = "move"

[[compare.adapters]]
name = "faster"
use = "move"
set.trainer.rate = 0.75
"""
KILLER = """
import os
from tunesmith import hookimpl


@hookimpl
def tunesmith_step(step):
    os.kill(os.getpid(), 9)
"""
BROKEN = """
[[compare.adapters]]
name = "broken"
use = "move"
set.trainer.fault = "raise"
"""


@pytest.fixture
def place(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a recipe of two adapters; children know the toy only."""
    monkeypatch.setenv("TUNESMITH_DISABLE", ",".join(point.name for point in metadata.entry_points(group="tunesmith")))
    add(tmp_path, TABLE)
    return tmp_path


def add(folder: Path, text: str) -> None:
    with (folder / "recipe.toml").open("a") as file:
        file.write(text)


def figures(output: Output) -> dict[str, dict[str, Any]]:
    assert output[0] == 0, output[2]
    found = json.loads(output[1])
    return {method["name"]: method for method in (found["base"], *found["methods"])}


def test_methods_are_ranked_a_crash_is_a_line_and_what_is_finished_is_kept(call: Call, place: Path) -> None:
    add(place, BROKEN)
    code, out, err = call("compare", "recipe.toml")
    assert code == 0, err
    names = [line.split()[0] for line in out.splitlines() if line.strip()]
    assert [name for name in names if name in ("faster", "move", "base", "broken:")] == [
        "faster", "move", "base", "broken:",
    ]  # fmt: skip
    assert "ZeroDivisionError: planted" in out
    assert "== 2 of 3: faster" in err
    assert "next: tunesmith chat runs/recipe-comparison/faster-001" in err

    folder = place / "runs" / "recipe-comparison"
    kept = json.loads((folder / "comparison.json").read_text())
    assert [method["status"] for method in kept["methods"]] == ["done", "done", "failed"]
    assert kept["methods"][2]["error"]["exit_code"] == 69
    table = (folder / "comparison.md").read_text()
    assert "| faster | 0.003906 [-0.006094, 0.01391] | 1 |" in table
    assert "| broken | failed: trainer 'pull'" in table
    check_figures({method["name"]: method for method in (kept["base"], *kept["methods"])})

    add(place, BROKEN.replace('fault = "raise"', "rate = 0.25").replace("broken", "slower"))
    output = call("compare", "recipe.toml", "--only", "move", "--only", "slower", "--json")
    assert (output[2].count("taken from"), output[2].count("the base model")) == (1, 0)
    again = figures(output)
    assert list(again) == ["base", "move", "slower"]
    assert [again["base"], again["move"]] == [kept["base"], kept["methods"][0]]
    assert again["slower"]["run"].endswith("slower-001")

    changed = call("compare", "recipe.toml", "--only", "move", "--set", "compare.measure.scale=3", "--json")
    assert "taken from" not in changed[2]
    assert figures(changed)["move"]["run"] == again["move"]["run"]  # the general text alone was measured again
    assert figures(changed)["move"]["general"]["distance"]["value"] == pytest.approx(3 * 0.0625)


def check_figures(found: dict[str, dict[str, Any]]) -> None:
    """The lines hold what the runs came to."""
    base, move = found["base"], found["move"]
    run = Path(move["run"])
    assert move["measures"]["distance"]["value"] == pytest.approx(0.5**4)
    assert move["general"]["distance"]["value"] == pytest.approx(2 * 0.5**4)
    assert move["general_change"] == {"value": pytest.approx(-93.75), "low": None, "high": None}
    assert (move["steps"], move["trainable_parameters"], move["train_seconds"]) == (4, 1, 0.01)
    assert move["size"] == (run / "artifact" / "weight.json").stat().st_size
    assert move["memory"] == json.loads((run / "results.json").read_text())["main"]["memory"]
    assert move["memory"]["of"] == base["memory"]["of"] == "process"
    assert 1e6 < move["memory"]["bytes"] < 1e9
    assert (base["measures"]["distance"]["value"], base["size"], base["trainable_parameters"]) == (1.0, 0, 0)
    assert found["faster"]["changes"] == {"trainer": {"rate": 0.75}}


def test_a_signal_keeps_what_is_finished(place: Path) -> None:
    heard: list[str] = []

    def say(message: str) -> None:
        heard.append(message)
        if "faster" in message and heard.count(message) == 1:
            os.kill(os.getpid(), signal.SIGINT)

    earlier = signal.getsignal(signal.SIGINT)
    with pytest.raises(Stopped) as stopped:
        compare("recipe.toml", say=say)
    assert stopped.value.exit_code == 130
    assert signal.getsignal(signal.SIGINT) is earlier
    kept = json.loads((place / "runs" / "recipe-comparison" / "comparison.json").read_text())
    assert [method["status"] for method in kept["methods"]] == ["done", "waiting"]
    done = compare("recipe.toml", say=heard.append)
    assert [method.name for method in done.done] == ["faster", "move", "base"]
    assert sum("taken from" in message for message in heard) == 1


def test_a_signal_is_handed_on_to_the_child() -> None:
    program = (
        "import os, signal, sys; signal.signal(15, lambda *_: sys.exit(7)); os.kill(os.getppid(), 15); signal.pause()"
    )
    relay = Relay()
    earlier = signal.signal(signal.SIGTERM, relay.hand_on)
    try:
        assert relay.call([sys.executable, "-c", program]) == 7
    finally:
        signal.signal(signal.SIGTERM, earlier)
    assert relay.received == signal.SIGTERM
    assert relay.call([sys.executable, "-c", "raise SystemExit(9)"]) == 0  # nothing more is begun


def test_a_child_whose_parent_is_gone_ends(place: Path) -> None:
    folder = str(place / "runs")
    job = Job(
        recipe=str(place / "recipe.toml"), recipe_folder=str(place), folder=folder, outcome=f"{place}/outcome.json"
    )
    job.write(place / "job.json")
    ended = subprocess.run(
        [sys.executable, "-m", "tunesmith.comparison.child", str(place / "job.json")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )
    assert ended.returncode in (-signal.SIGTERM, 128 + signal.SIGTERM)


def test_a_child_that_is_killed_is_a_line(call: Call, place: Path) -> None:
    (place / "killer.py").write_text(KILLER)
    text = (place / "recipe.toml").read_text().replace(f'["{TOY}"]', f'["{TOY}", "killer.py"]')
    (place / "recipe.toml").write_text(text)
    code, out, _ = call("compare", "recipe.toml", "--only", "move", "--json")
    assert code == 128 + 9  # nothing else was there to compare
    (method,) = json.loads(out)["methods"]
    assert method["error"]["what"] == "its process was killed by SIGKILL"
    assert "memory" in method["error"]["fix"]


def test_a_base_that_cannot_be_measured_stops_everything(call: Call, place: Path) -> None:
    (place / "pairs.txt").write_text("no bar\n" * 20)
    code, out, err = call("compare", "recipe.toml")
    assert (code, out) == (65, "")
    assert "the base model cannot be measured" in err
    assert not list((place / "runs" / "recipe-comparison").glob("*-001"))


@pytest.mark.parametrize("damage", ["", "[1]", '{"fingerprints"', "whole"])
def test_a_damaged_file_of_the_base_is_measured_again(call: Call, place: Path, damage: str) -> None:
    words = ("compare", "recipe.toml", "--only", "move", "--json")
    first = figures(call(*words))
    path = place / "runs" / "recipe-comparison" / "base.json"
    whole = json.loads(path.read_text())
    path.write_text(json.dumps({"fingerprints": whole["fingerprints"]}) if damage == "whole" else damage)
    again = call(*words)
    assert "== the base model" in again[2]
    assert figures(again)["base"]["measures"] == first["base"]["measures"]
    assert json.loads(path.read_text()).keys() == whole.keys()


def test_run_does_not_read_the_table(call: Call, place: Path) -> None:
    registry = Registry()
    registry.add_file(TOY)
    marks = []
    text = (place / "recipe.toml").read_text()
    for shown in (text.removesuffix(TABLE), text):
        assert ("[compare]" in shown) == bool(marks)
        (place / "recipe.toml").write_text(shown)
        marks.append(make_plan(read(place / "recipe.toml"), registry).stages[0].fingerprint)
    assert marks[0] == marks[1]
    assert call("run", "recipe.toml")[0] == 0


def test_two_comparisons_do_not_share_a_folder(place: Path) -> None:
    from tunesmith.folder import RunFolder

    folder = place / "runs" / "recipe-comparison"
    folder.mkdir(parents=True)
    held = RunFolder(folder)
    held.lock()
    try:
        with pytest.raises(TunesmithError, match="is held by process") as refused:
            compare("recipe.toml", say=lambda _: None)
    finally:
        held.release()
    assert refused.value.exit_code == 75
