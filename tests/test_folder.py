"""A run's folder: held by one process, numbered without gaps, readable after a crash."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import socket
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from tunesmith import DataError, DiskError, LockedError
from tunesmith.folder import LOCK, METRICS, RunFolder, check_writable, environment

FORK = multiprocessing.get_context("fork")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def in_another_process(work: Callable[[Connection], None]) -> Any:
    """What `work` sends from a process of its own; the process has ended when this returns."""
    ours, theirs = FORK.Pipe()
    process = FORK.Process(target=work, args=(theirs,))
    process.start()
    theirs.close()
    answer = ours.recv()
    process.join(10)
    return answer


# --- lock -------------------------------------------------------------------------------------
def test_of_two_processes_one_holds_the_folder(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "demo")
    folder.set_state("running")

    def contend(pipe: Connection) -> None:
        try:
            RunFolder(folder.path).lock()
            pipe.send(None)
        except LockedError as error:
            pipe.send((str(error), error.exit_code, RunFolder(folder.path).status))

    message, code, status = in_another_process(contend)
    assert code == 75
    assert status == "running"
    pattern = rf"run demo-001 is held by process {os.getpid()} on {re.escape(socket.gethostname())} since 20\d\d-\d\d"
    assert re.search(pattern, message)
    folder.release()
    assert in_another_process(contend) is None


def test_the_lock_of_a_dead_process_is_taken(tmp_path: Path) -> None:
    def die(pipe: Connection) -> None:
        folder = RunFolder.create(tmp_path, "demo")
        folder.set_state("running")
        pipe.send(os.getpid())
        os._exit(9)

    pid = in_another_process(die)
    folder = RunFolder(tmp_path / "demo-001")
    assert json.loads((folder.path / LOCK).read_text())["pid"] == pid, "the dead one's name still stands there"
    assert folder.holder() == {}
    assert folder.status == "interrupted"
    folder.lock()
    assert json.loads((folder.path / LOCK).read_text())["pid"] == os.getpid()


@pytest.mark.parametrize("content", ["", "{cut", "[]", "\udcff\udcfe"])
def test_a_damaged_lock_file_is_no_obstacle(content: str, tmp_path: Path) -> None:
    (tmp_path / LOCK).write_bytes(content.encode(errors="surrogateescape"))
    folder = RunFolder(tmp_path)
    assert folder.holder() == {}
    folder.lock()
    assert json.loads((tmp_path / LOCK).read_text())["host"] == socket.gethostname()


def test_an_owner_on_another_host_is_believed(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.set_state("running")
    (tmp_path / LOCK).write_text(json.dumps({"pid": 7, "host": "far-away", "start": "2031-01-01"}))
    assert folder.status == "running"
    with pytest.raises(LockedError, match="held by process 7 on far-away since 2031-01-01") as caught:
        folder.lock()
    assert "remove the file `lock`" in str(caught.value)
    folder.set_state("stopped")
    folder.lock()


def test_a_lock_that_is_only_looked_at_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    real = fcntl.flock
    calls: list[int] = []

    def busy_at_first(file: Any, how: int) -> None:
        calls.append(how)
        if len(calls) < 3:
            raise BlockingIOError(11, "busy")
        real(file, how)

    monkeypatch.setattr("fcntl.flock", busy_at_first)
    RunFolder(tmp_path).lock()
    assert len(calls) == 3


def test_released_folders_name_nobody(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path, "demo")
    folder.release()
    folder.release()
    assert (folder.path / LOCK).read_text() == ""
    assert folder.holder() == {}


# --- numbers ----------------------------------------------------------------------------------
def test_eight_processes_get_eight_numbers(tmp_path: Path) -> None:
    gate = FORK.Barrier(8)

    def make(pipe: Connection) -> None:
        gate.wait(20)
        pipe.send(RunFolder.create(tmp_path / "runs", "demo").path.name)

    pairs = [FORK.Pipe() for _ in range(8)]
    processes = [FORK.Process(target=make, args=(theirs,)) for _, theirs in pairs]
    for process in processes:
        process.start()
    names = [ours.recv() for ours, _ in pairs]
    for process in processes:
        process.join(10)
    assert sorted(names) == [f"demo-{number:03d}" for number in range(1, 9)]


def test_numbers_go_on_after_the_highest(tmp_path: Path) -> None:
    for name in ("demo-001", "demo-1007", "demo-x", "other-2000", "demo-5.bak"):
        (tmp_path / name).mkdir()
    (tmp_path / "demo-1008").write_text("a file counts as well")
    assert RunFolder.create(tmp_path, "demo").path.name == "demo-1009"


@pytest.mark.parametrize(
    ("name", "folder"), [("a b/c", "a-b-c-001"), ("../..", "run-001"), ("", "run-001"), ("é", "run-001")]
)
def test_a_name_cannot_leave_the_folder(name: str, folder: str, tmp_path: Path) -> None:
    assert RunFolder.create(tmp_path, name).path == tmp_path / folder


# --- places that cannot be written (the tests may run as root, whom no permission stops) -------
@pytest.mark.parametrize("below", ["", "deep/er"])
def test_a_file_in_the_way_is_refused(below: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    place = tmp_path / "file" / below
    for attempt in (check_writable, lambda base: RunFolder.create(base, "demo")):
        with pytest.raises(DiskError, match="file is a file, not a folder") as caught:
            attempt(place)
        assert caught.value.where == str(place)


def test_a_link_to_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "runs").symlink_to(tmp_path / "gone")
    with pytest.raises(DiskError, match="link to nothing"):
        RunFolder.create(tmp_path / "runs", "demo")


def test_a_folder_without_permission_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # what the system answers others than root
    with pytest.raises(DiskError, match="cannot be written by this user"):
        check_writable(tmp_path)


@pytest.mark.parametrize("number", [13, 28, 30])
def test_a_folder_that_cannot_be_made_is_a_disk_error(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, *arguments: object, **options: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(DiskError, match=os.strerror(number)):
        RunFolder.create(tmp_path / "runs", "demo")


def test_missing_parents_are_made(tmp_path: Path) -> None:
    check_writable(tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists(), "checking makes nothing"
    assert RunFolder.create(tmp_path / "a" / "b", "demo").path.is_dir()


@pytest.mark.parametrize("present", [(), ("manifest.json",), ("recipe.toml",)])
def test_other_folders_are_no_runs(present: tuple[str, ...], tmp_path: Path) -> None:
    for name in present:
        (tmp_path / name).write_text("")
    with pytest.raises(DataError, match="is not a run folder"):
        RunFolder.open(tmp_path)


# --- logs -------------------------------------------------------------------------------------
def test_metrics_after_a_step_are_forgotten(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for stage in ("a", "b"):
        for step in (1, 2, 3):
            folder.metrics(stage, step, {"loss": step / 2})
    folder.forget_after("b", 1)
    assert [(line["stage"], line["step"]) for line in lines(tmp_path / METRICS)] == [
        ("a", 1), ("a", 2), ("a", 3), ("b", 1),
    ]  # fmt: skip
    folder.forget_after("a", 0)
    assert [line["stage"] for line in lines(tmp_path / METRICS)] == ["b"]


def test_forgetting_without_metrics_makes_no_file(tmp_path: Path) -> None:
    RunFolder(tmp_path).forget_after("main", 3)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("cut", [b'{"stage": "main", "st', b'{"stage": "main", "step": 3, "note": "caf\xc3', b"\xff"])
def test_a_cut_last_line_harms_no_other(cut: bytes, tmp_path: Path) -> None:
    path = tmp_path / METRICS
    RunFolder(tmp_path).metrics("main", 1, {"loss": 1.0})
    with path.open("ab") as file:
        file.write(cut)
    RunFolder(tmp_path).metrics("main", 2, {"loss": 0.5})
    good = [line for line in path.read_bytes().split(b"\n") if line.endswith(b"}")]
    assert [json.loads(line)["step"] for line in good] == [1, 2]
    RunFolder(tmp_path).forget_after("main", 2)
    assert [line["step"] for line in lines(path)] == [1, 2]


def test_lines_are_split_at_newlines_only(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.event("note", message="one\u2028two\ud800")
    (event,) = lines(tmp_path / "events.jsonl")
    assert event["message"] == "one\u2028two\ud800"
    with (tmp_path / METRICS).open("w", encoding="utf-8") as file:
        file.write('{"stage": "x\u2028y", "step": 1}\n')
    folder.forget_after("main", 0)
    assert lines(tmp_path / METRICS) == [{"stage": "x\u2028y", "step": 1}]


def test_event_times_run_on_a_monotonic_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path)
    monkeypatch.setattr("tunesmith.folder.now", lambda: "2001-01-01T00:00:00+00:00")  # the clock was set back
    folder.event("one")
    folder.event("two")
    first, second = lines(tmp_path / "events.jsonl")
    assert 0 <= first["seconds"] <= second["seconds"]


def test_a_full_disk_under_a_log_is_named(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    (tmp_path / METRICS).symlink_to("/dev/full")
    with pytest.raises(DiskError, match="No space left") as caught:
        folder.metrics("main", 1, {"loss": 1.0})
    assert caught.value.where == str(tmp_path / METRICS)


@pytest.mark.parametrize("content", ["", "{", "[]", "null", "\udcff"])
def test_a_damaged_state_is_unknown_and_never_done(content: str, tmp_path: Path) -> None:
    (tmp_path / "state.json").write_bytes(content.encode(errors="surrogateescape"))
    folder = RunFolder(tmp_path)
    assert folder.status == "unknown"
    assert folder.manifest == folder.results == {}


def test_the_environment_names_machine_and_versions() -> None:
    found = environment()
    assert found["host"] == socket.gethostname()
    assert set(found) == {"python", "platform", "machine", "cpus", "host", "command", "libraries"}
    assert all(isinstance(version, str) for version in found["libraries"].values())
