"""Standard streams that are full, closed, or that nobody reads: the documented code, and a finished run is one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from faults.battery import Recorder, amount

pytestmark = [pytest.mark.run, pytest.mark.fault("R28")]

PROGRAM = "import sys; from tunesmith.console import main; sys.exit(main(sys.argv[1:]))"
TOY = Path(__file__).parents[1] / "test_console_toy.py"
RECIPE = f"""\
plugins = ["{TOY}"]
model = {{source = "toy:one"}}
data = {{use = "pairs", path = "pairs.txt"}}
adapter = {{use = "move"}}
trainer = {{use = "pull"}}
evaluate = [{{use = "distance"}}]
"""
#: How a shell starts a command with such a stream, by what it is.
FULL, CLOSED, UNREAD = "{0}>/dev/full", "{0}>&-", "unread"
STREAMS = {"full": FULL, "closed": CLOSED, "not read": UNREAD}
CODES = {"full": 74, "closed": 74, "not read": 141}
ASKED = (["--help"], ["--version"], ["plugins", "list"], ["plan", "recipe.toml"], ["schema"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "recipe.toml").write_text(RECIPE)
    (tmp_path / "pairs.txt").write_text("".join(f"question {number}|answer {number}\n" for number in range(8)))
    (tmp_path / "runs").mkdir()
    return tmp_path


def ended(folder: Path, how: str, numbers: tuple[int, ...], *words: str) -> tuple[int, str]:
    """Exit code, and what came through the stream that is left, of a command whose streams are so."""
    environment = {
        **os.environ,
        "TUNESMITH_CACHE": str(folder / "cache"),
        "TUNESMITH_CONFIG": str(folder / "config"),
        "TUNESMITH_DISABLE": ",".join(point.name for point in metadata.entry_points(group="tunesmith")),
    }
    shown = STREAMS[how]
    ends: dict[int, int] = {}
    command = [sys.executable, "-c", PROGRAM, *words]
    if shown == UNREAD:
        for number in numbers:
            reader, ends[number] = os.pipe()
            os.close(reader)
        streams = {1: subprocess.PIPE, 2: subprocess.PIPE, **ends}
    else:
        script = " ".join(['"$@"', *(shown.format(number) for number in numbers)])
        command = ["sh", "-c", script, "sh", *command]
        streams = {1: subprocess.PIPE, 2: subprocess.PIPE}
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=streams[1], stderr=streams[2]) as process:
        for end in ends.values():
            os.close(end)
        out, err = process.communicate(timeout=120)
    return process.returncode, ((out or b"") + (err or b"")).decode()


@pytest.mark.parametrize("how", STREAMS)
def test_what_cannot_be_delivered_ends_in_its_code(folder: Path, fault: Recorder, how: str) -> None:
    count = fault("R28", f"stdout {how}, of a command that was asked something")
    for words in amount(ASKED, ASKED[1:3]):
        with count.trial(" ".join(words)):
            code, said = ended(folder, how, (1,), *words)
            assert code == CODES[how], said
            assert "Traceback" not in said
            assert "defect" not in said
            assert "Exception ignored" not in said
            assert ("error: what was asked for cannot be written to stdout" in said) == (how != "not read")


@pytest.mark.parametrize("how", STREAMS)
def test_talk_that_nobody_hears_changes_nothing(folder: Path, fault: Recorder, how: str) -> None:
    count = fault("R28", f"stderr {how}")
    for words, wanted in amount(((["--version"], 0), (["runs", "runs"], 0), (["runs", "no"], 65), (["x"], 2)), ()) or (
        (["runs", "no"], 65),
    ):
        with count.trial(" ".join(words)):
            code, said = ended(folder, how, (2,), *words)
            assert code == wanted, said
            assert "Traceback" not in said


@pytest.mark.parametrize("how", STREAMS)
def test_a_finished_run_is_one_whatever_becomes_of_what_it_says(folder: Path, fault: Recorder, how: str) -> None:
    count = fault("R28", f"a run whose stdout, stderr or both are {how}")
    for numbers in amount(((1,), (2,), (1, 2)), ((1, 2),)):
        with count.trial(f"{numbers}"):
            code, said = ended(folder, how, numbers, "run", "recipe.toml")
            assert code == 0, said
            states = [json.loads(path.read_text())["status"] for path in folder.glob("runs/*/state.json")]
            assert set(states) == {"done"}
            assert "Traceback" not in said
            assert "defect" not in said
