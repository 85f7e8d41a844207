"""Several processes at one list of plugins, one conversion, one folder, at one time: nothing is lost, none fails."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli

from faults.battery import Recorder, amount
from tunesmith.errors import DiskError
from tunesmith.staging import LOCK, STAGING
from tunesmith.store import commit_folder, damage, make_once

pytestmark = pytest.mark.fault("R23")

SWITCH = "import sys; from tunesmith.console import main; sys.exit(main(sys.argv[1:]))"
NAMES = ("adalora", "bottleneck", "classify", "full", "grpo", "ia3", "loha", "longlora", "lora", "ppo", "qlora", "sft")


def test_plugins_switched_off_together_are_all_off(tmp_path: Path, fault: Recorder) -> None:
    environment = {**os.environ, "TUNESMITH_CONFIG": str(tmp_path / "config")}
    count = fault("R23", "`plugins disable` and `enable`, twelve at a time")
    for round_ in range(amount(16, 1)):
        for word, wanted in (("disable", sorted(NAMES)), ("enable", [])):
            started = [
                subprocess.Popen(
                    [sys.executable, "-c", SWITCH, "plugins", word, name], stderr=subprocess.PIPE, env=environment
                )
                for name in NAMES
            ]
            ended = {name: (one.communicate()[1], one.returncode) for name, one in zip(NAMES, started, strict=True)}
            off = tomli.loads((tmp_path / "config" / "plugins.toml").read_text())["disabled"]
            for name, (said, code) in ended.items():
                with count.trial(f"{word} {name}, round {round_}"):
                    assert code == 0, said.decode()
                    assert (name in off) == (name in wanted), f"{name} was lost"
    assert [path.name for path in (tmp_path / "config").iterdir()] == ["plugins.toml"]


def together(number: int, work: Callable[..., Any], *arguments: Any) -> list[int]:
    """Exit codes of processes that do one thing at one time."""
    made = multiprocessing.get_context("fork")
    gate = made.Barrier(number)
    workers = [made.Process(target=_passed, args=(gate, work, *arguments)) for _ in range(number)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    return [worker.exitcode if worker.exitcode is not None else -1 for worker in workers]


def _passed(gate: Any, work: Callable[..., Any], *arguments: Any) -> None:
    gate.wait()
    work(*arguments)


def _note(folder: Path, log: Path, seconds: float) -> None:
    with log.open("a") as file:
        file.write("made\n")
    (folder / "content").write_text("whole")
    time.sleep(seconds)


def _make_once(target: Path, log: Path) -> None:
    make_once(target, lambda folder: _note(folder, log, 0.05))
    assert (target / "content").read_text() == "whole"


def _commit(target: Path, log: Path) -> None:
    for _ in range(10):
        commit_folder(target, lambda folder: _note(folder, log, 0))


def test_what_processes_share_is_made_by_one_of_them(tmp_path: Path, fault: Recorder) -> None:
    count = fault("R23", "four that want one folder of the cache")
    for number in range(amount(50, 2)):
        with count.trial(str(number)):
            target, log = tmp_path / "cache" / str(number), tmp_path / f"log{number}"
            assert together(4, _make_once, target, log) == [0] * 4
            assert log.read_text() == "made\n"
            assert not damage(target)
            assert not [path for path in target.parent.iterdir() if path.name.startswith((STAGING, LOCK))]


def test_of_those_that_replace_one_folder_one_is_the_last(tmp_path: Path, fault: Recorder) -> None:
    count = fault("R23", "four that replace one folder, ten times each")
    for number in range(amount(50, 2)):
        with count.trial(str(number)):
            target = tmp_path / "exports" / str(number)
            assert together(4, _commit, target, tmp_path / "log") == [0] * 4
            assert not damage(target)
            assert [path for path in target.parent.iterdir() if path.name.startswith(STAGING)] == []


def test_a_process_that_waits_makes_it_when_the_other_one_fails(tmp_path: Path) -> None:
    def fails(folder: Path) -> None:
        raise DiskError("full")

    with pytest.raises(DiskError):
        make_once(tmp_path / "it", fails)
    assert make_once(tmp_path / "it", lambda folder: None) == tmp_path / "it"
    assert [path.name for path in tmp_path.iterdir()] == ["it"]
