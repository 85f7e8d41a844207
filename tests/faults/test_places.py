"""Folders that cannot be used: `plan` says so at once, before a model is loaded."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from faults.battery import Recorder, amount

pytestmark = [pytest.mark.run, pytest.mark.fault("R6")]


def planned(recipe: Path, compiled: Path) -> tuple[int, str, float]:
    """`tunesmith plan` in a process of its own: its exit code, what it said, and the seconds of processor it took.

    Args:
        compiled: where Python keeps the modules that it has compiled, as it does where Tunesmith is installed.
    """
    command = [Path(sys.executable).with_name("tunesmith"), "plan", recipe]
    kept = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(compiled), "PYTHONPROFILEIMPORTTIME": "1"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **kept})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done.returncode, done.stderr, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_a_folder_that_cannot_be_used_is_refused_by_the_plan(
    house: Any, fault: Recorder, mounted: Callable[[str], Path], tmp_path: Path
) -> None:
    planned(house.recipe(), tmp_path / "compiled")
    file = house.write("file", "text")
    link = house.folder / "link"
    link.symlink_to(house.folder / "nowhere")
    cases: dict[str, tuple[str, Path, int]] = {
        "a read-only folder of runs": ("run.folder", mounted("ro") / "runs", 74),
        "a file instead of a folder of runs": ("run.folder", file, 74),
        "a file above the folder of runs": ("run.folder", file / "runs", 74),
        "a link to nothing instead of a folder of runs": ("run.folder", link, 74),
        "a missing folder of the model": ("model.source", house.folder / "missing", 78),
        "a file instead of the folder of the model": ("model.source", file, 78),
        "a missing file of rows": ("data.path", house.folder / "missing.jsonl", 65),
        "a folder instead of the file of rows": ("data.path", house.runs.parent, 65),
    }
    for what, (key, place, _) in cases.items():
        with fault("R6", what).trial(str(place)):
            recipe = house.recipe({key: str(place)})
            code, said, seconds = planned(recipe, tmp_path / "compiled")
            error = said.partition("error: ")[2]
            assert code in (65, 74, 78), f"exit {code}: {said[-2000:]}"
            assert str(place) in error, error
            assert "fix: " in error
            assert "Traceback" not in said
            heavy = {"torch", "transformers"} & {line.rpartition("|")[2].strip() for line in said.splitlines()}
            assert not heavy, f"{heavy} were imported"
            # the time that the plan itself takes, whatever else this machine does; measured by `make faults` alone
            assert seconds < amount(1.0, 60.0), f"{seconds:.2f} s"
            assert not house.runs.exists()
