"""SIGKILL, power loss and errors at every system call that changes the disk while a run saves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from faults.battery import Recorder, amount
from faults.calls import CHANGING, brink, need_strace, read_calls
from faults.power import Disk
from faults.saves import SAVES, Saves, each_call
from faults.victims import Victims
from tunesmith.store import checkpoint_step, checkpoints

pytestmark = pytest.mark.run

EVERY = amount(1, 20)  # each, or a few


@pytest.mark.fault("R2", "R3")
@pytest.mark.parametrize("save", SAVES)
def test_a_kill_or_a_power_loss_at_every_call_of_a_save(
    lean: Any, victims: Victims, fault: Recorder, save: str
) -> None:
    adapter, (begin, end) = SAVES[save]
    stage = Saves(lean, victims, adapter)
    killed, dark = fault("R2", save), fault("R3", save)
    with brink(victims, ["run", stage.recipe], stage.run, begin, lean.folder / "brink", end) as at:
        for name, number in list(each_call(at))[::EVERY]:
            how = f"{name} {number}"
            traced = f"trace={','.join(CHANGING)}"
            code = at.go("-e", traced, "-e", f"inject={name}:signal=KILL:when={number}")
            assert code == -9, f"{how}: {code}"
            with killed.trial(how):
                left = stage.copy("killed")
                kept = [checkpoint_step(path) for path in checkpoints(left / "checkpoints")]
                assert begin == "step 1" or kept, "neither the old nor the new checkpoint is there"
                stage.survives(left)
            with dark.trial(how):
                left = stage.copy("dark")
                disk = Disk(stage.run)
                disk.follow(read_calls(at.log))
                disk.fail(left, at.snapshot)
                stage.survives(left)


def test_a_power_loss_empties_and_undoes(tmp_path: Path) -> None:
    """The simulation itself, on a folder that is written carelessly."""
    run, before = tmp_path / "run", tmp_path / "before"
    log = tmp_path / "log"
    for place in (run, before):
        place.mkdir()
        (place / "appended").write_text("old")
        (place / "replaced").write_text("old")
    program = (
        "import os, sys; at = sys.argv[1].__add__\n"
        "open(at('appended'), 'a').write('new'); open(at('fresh'), 'w').write('new')\n"
        "with open(at('safe'), 'w') as file: file.write('new'); file.flush(); os.fsync(file.fileno())\n"
        "open(at('temporary'), 'w').write('new'); os.rename(at('temporary'), at('replaced'))\n"
        "os.mkdir(at('folder')); open(at('folder/inside'), 'w').write('new')\n"
    )
    traced = [need_strace(), "-f", "-y", "-o", log, "-e", f"trace={','.join(CHANGING)}", sys.executable, "-S", "-c"]
    subprocess.run([*traced, program, f"{run}/"], check=True)
    disk = Disk(run)
    disk.follow(read_calls(log))
    disk.fail(run, before)
    found = {path.name: path.read_text() for path in run.iterdir()}
    assert found == {"appended": "old", "fresh": "", "safe": "new", "temporary": "", "replaced": "old"}
