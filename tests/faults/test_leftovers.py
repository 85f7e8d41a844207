"""What killed commands leave: it goes at the next start, `doctor` names it, and `doctor --clean` removes it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from faults.battery import Recorder, amount
from tunesmith.staging import LOCK, SCRATCH, STAGING, left_in, left_in_scratch, scratch
from tunesmith.store import commit_folder, damage, make_once

pytestmark = [pytest.mark.run, pytest.mark.fault("R30")]

#: A process that waits while it makes something: what it makes, by the function that makes it.
MAKES = """
import sys, time
from pathlib import Path
from tunesmith.staging import scratch
from tunesmith.store import commit_folder, make_once
target = Path(sys.argv[1])

def wait(folder):
    (folder / "half").write_bytes(b"x" * 1000)
    print("here", flush=True)
    time.sleep(600)

{0}
"""
WAYS = {
    "a conversion in the cache": "make_once(target, wait)",
    "an export": "commit_folder(target, wait)",
    "temporary files": "with scratch() as folder: wait(folder)",
}


def killed(target: Path, way: str, temporary: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", MAKES.format(way), str(target)],
        stdout=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(temporary)},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"here\n"
        assert left_in(target.parent) == [], "what a living process makes is no leftover"
        assert left_in_scratch() == []
        process.send_signal(signal.SIGKILL)


@pytest.mark.parametrize("way", WAYS)
def test_what_a_killed_process_left_goes(
    call: Callable[..., tuple[int, str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: Recorder,
    way: str,
) -> None:
    count = fault("R30", f"{way}, killed half-way")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    parent = tmp_path / "cache" / "converted" if "cache" in way else tmp_path
    for number in range(amount(5, 1)):
        target = parent / f"made{number}"
        with count.trial(f"next start {number}"):
            killed(target, WAYS[way], temporary)
            assert [*left_in(parent), *left_in_scratch()]
            if "temporary" in way:
                with scratch() as folder:
                    assert list(temporary.glob(f"{SCRATCH}*")) == [folder]
            elif "export" in way:
                commit_folder(target, lambda folder: None)
                assert not damage(target)
            else:
                begun = time.monotonic()
                make_once(parent / "other", lambda folder: None)
                assert time.monotonic() - begun < 5
            assert not [*parent.glob(f"{STAGING}*"), *temporary.glob(f"{SCRATCH}*")]
        with count.trial(f"doctor {number}"):
            killed(target, WAYS[way], temporary)
            found = json.loads(call("doctor", "--json")[1])["leftovers"]
            assert len([path for path in found if LOCK not in path]) == 1
            assert left_in(parent) or left_in_scratch(), "doctor alone removes nothing"
            code, out, err = call("doctor", "--clean")
            assert code == 0, err
            assert "removed: " in err
            assert "left by a kill" not in out
            assert not [*parent.glob(f"{STAGING}*"), *parent.glob(f"{LOCK}*"), *temporary.glob(f"{SCRATCH}*")]


def test_a_folder_that_was_caught_between_two_renames_comes_back(tmp_path: Path) -> None:
    target = commit_folder(tmp_path / "it", lambda folder: None)
    os.rename(target, tmp_path / f"{STAGING}old-it-999999999")
    make_once(tmp_path / "other", lambda folder: None)
    assert not damage(target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["it", "other"]


def test_what_a_living_process_makes_stays(tmp_path: Path) -> None:
    def build(folder: Path) -> None:
        make_once(tmp_path / "other", lambda folder: None)
        assert folder.is_dir()

    commit_folder(tmp_path / "it", build)
    assert not damage(tmp_path / "it")
