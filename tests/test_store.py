"""Folders and files that are wholly there or not at all, whatever fails and whenever."""

from __future__ import annotations

import errno
import json
import os
import random
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunesmith import DiskError, TunesmithError
from tunesmith.store import (
    DIGESTS,
    STAGING,
    checkpoint_step,
    checkpoints,
    clean_staging,
    commit_folder,
    damage,
    newest_good,
    pin,
    pins,
    rotate,
    sha256_file,
    verify,
    write_file,
    write_json,
)


def build(content: str) -> Callable[[Path], None]:
    def fill(folder: Path) -> None:
        (folder / "weights.bin").write_bytes(content.encode() * 100)
        (folder / "sub").mkdir()
        (folder / "sub" / "state.json").write_text(json.dumps({"content": content}))

    return fill


def content_of(folder: Path) -> str:
    verify(folder)
    return str(json.loads((folder / "sub" / "state.json").read_text())["content"])


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(STAGING)]


# --- committing -------------------------------------------------------------------------------
def test_a_committed_folder_verifies_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "artifact"
    assert commit_folder(target, build("one")) == target
    assert content_of(target) == "one"
    commit_folder(target, build("two"))
    assert content_of(target) == "two"
    assert hidden(target.parent) == []


def test_digests_of_a_folder_inside_are_content_like_any_other(tmp_path: Path) -> None:
    inner = commit_folder(tmp_path / "inner", build("one"))

    def around(folder: Path) -> None:
        shutil.copytree(inner, folder / "parent")

    outer = commit_folder(tmp_path / "outer", around)
    assert damage(outer) == []
    (outer / "parent" / DIGESTS).write_text("{}")
    assert damage(outer) == [f"parent/{DIGESTS}: its content changed since it was written"]


class Killed(BaseException):
    """Stands for a kill: no `except Exception` sees it."""


STEPS = ("rename", "fsync", "mkdir", "open", "replace")


@contextmanager
def failing(step: str, at: int, error: Callable[[], BaseException]) -> Iterator[list[int]]:
    """The `at`-th call of an operating system function that writes raises; yields the calls counted."""
    calls = [0]
    patch = pytest.MonkeyPatch()
    real = getattr(os, step)

    def fails(*arguments: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] == at:
            raise error()
        return real(*arguments, **options)

    patch.setattr(os, step, fails)
    try:
        yield calls
    finally:
        patch.undo()


@pytest.mark.parametrize("kind", ["no space", "killed"])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("replaces", [False, True])
def test_the_old_or_the_new_is_there_whatever_fails(step: str, kind: str, replaces: bool, tmp_path: Path) -> None:
    def error() -> BaseException:
        return Killed() if kind == "killed" else OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for at in range(1, 30):
        folder = tmp_path / str(at)
        target = folder / "step-000001"
        folder.mkdir()
        if replaces:
            commit_folder(target, build("old"))
        with failing(step, at, error) as calls:
            try:
                commit_folder(target, build("new"))
                raised = None
            except BaseException as caught:
                raised = caught
        clean_staging(folder)
        assert hidden(folder) == []
        if raised is None:
            assert content_of(target) == "new"
            if calls[0] < at:
                break
            continue  # an error while tidying up: the commit stands
        if kind == "no space":
            assert isinstance(raised, DiskError)
            assert raised.where == str(target)
            assert "free space" in str(raised)
        if target.exists():
            assert content_of(target) in ({"old", "new"} if replaces else {"new"})
        else:
            assert not replaces
    else:
        pytest.fail("the fault never stopped coming")


def test_an_error_puts_the_old_folder_back_at_once(tmp_path: Path) -> None:
    target = commit_folder(tmp_path / "artifact", build("old"))
    with failing("rename", 2, lambda: OSError(errno.EIO, "I/O")), pytest.raises(DiskError):
        commit_folder(target, build("new"))
    assert content_of(target) == "old"
    assert hidden(tmp_path) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS])
def test_a_failing_disk_is_named_with_path_and_free_space(number: int, tmp_path: Path) -> None:
    def full(folder: Path) -> None:
        raise OSError(number, os.strerror(number))

    with pytest.raises(DiskError, match=os.strerror(number)) as caught:
        commit_folder(tmp_path / "x", full)
    assert caught.value.where == str(tmp_path / "x")
    assert caught.value.details[0] == "needed: a new folder"
    assert re.fullmatch(r"free space there: \d+\.\d MiB of \d+\.\d MiB", caught.value.details[1])
    assert caught.value.details[2].startswith("that disk is mounted at /")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("text", ["No space left on device (os error 28)", "Error: I/O error: os error 28"])
def test_a_library_that_wraps_the_error_in_words_is_understood(text: str, tmp_path: Path) -> None:
    def full(folder: Path) -> None:
        raise RuntimeError(text)

    with pytest.raises(DiskError, match="No space left"):
        commit_folder(tmp_path / "x", full)


def test_other_errors_pass_unchanged(tmp_path: Path) -> None:
    def wrong(folder: Path) -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        commit_folder(tmp_path / "x", wrong)
    assert list(tmp_path.iterdir()) == []


# --- kills: what is left on the disk ----------------------------------------------------------
def test_a_kill_between_the_two_renames_is_undone(tmp_path: Path) -> None:
    target = commit_folder(tmp_path / "step-000100", build("old"))
    os.rename(target, tmp_path / f"{STAGING}old-step-000100-123")
    half = tmp_path / f"{STAGING}step-000100-123"
    half.mkdir()
    build("new")(half)
    clean_staging(tmp_path)
    assert content_of(target) == "old"
    assert hidden(tmp_path) == []


def test_a_kill_after_the_renames_leaves_the_new_one(tmp_path: Path) -> None:
    target = commit_folder(tmp_path / "step-000100", build("new"))
    shutil.copytree(target, tmp_path / f"{STAGING}old-step-000100-9")
    (tmp_path / f"{STAGING}state.json").write_text("{half")
    clean_staging(tmp_path)
    assert content_of(target) == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000100"]


# --- files ------------------------------------------------------------------------------------
def test_a_file_is_replaced_wholly_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    write_json(path, {"a": "é"})
    for step in ("fsync", "replace"):
        with failing(step, 1, lambda: OSError(errno.ENOSPC, "full")), pytest.raises(DiskError):
            write_json(path, {"b": 1})
        assert json.loads(path.read_text(encoding="utf-8")) == {"a": "é"}
    clean_staging(tmp_path)
    assert hidden(tmp_path) == []


def test_a_lone_surrogate_is_kept_as_its_escape(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"text": "a\ud800b"})
    assert json.loads((tmp_path / "x.json").read_text(encoding="utf-8")) == {"text": "a\ud800b"}


def test_write_file_keeps_text_as_it_is(tmp_path: Path) -> None:
    write_file(tmp_path / "x", "one\ntwo\u2028\n")
    assert (tmp_path / "x").read_bytes() == "one\ntwo\u2028\n".encode()


# --- damage -----------------------------------------------------------------------------------
FILES = ("weights.bin", "sub/state.json", DIGESTS)


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    return commit_folder(tmp_path / "step-000007", build("content"))


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
def test_a_file_cut_short_is_noticed(name: str, share: float, whole: Path) -> None:
    path = whole / name
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert damage(whole)
    with pytest.raises(TunesmithError, match="is damaged"):
        verify(whole)


@pytest.mark.parametrize("name", FILES)
def test_one_flipped_bit_is_noticed_at_25_places(name: str, whole: Path) -> None:
    path = whole / name
    content = path.read_bytes()
    draw = random.Random(7)
    for place in draw.sample(range(len(content)), min(25, len(content))):
        flipped = bytearray(content)
        flipped[place] ^= 1 << draw.randrange(8)
        path.write_bytes(flipped)
        assert damage(whole), f"{name}: byte {place}"
    path.write_bytes(content)
    assert damage(whole) == []


def test_what_is_missing_added_or_leads_out_is_named(whole: Path, tmp_path: Path) -> None:
    def after(change: Callable[[Path], Any]) -> list[str]:
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(whole, copy)
        change(copy)
        return damage(copy)

    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(whole / "sub", elsewhere)

    def link_file(folder: Path) -> None:
        (folder / "weights.bin").unlink()
        (folder / "weights.bin").symlink_to(whole / "weights.bin")

    def link_folder(folder: Path) -> None:
        shutil.rmtree(folder / "sub")
        (folder / "sub").symlink_to(elsewhere)

    assert after(lambda folder: (folder / "weights.bin").unlink()) == ["weights.bin: missing"]
    assert after(lambda folder: (folder / "x.pkl").write_text("")) == ["x.pkl: was not there when it was written"]
    assert after(lambda folder: (folder / "out").symlink_to(elsewhere)) == ["out: was not there when it was written"]
    assert after(link_file) == ["weights.bin: leads out of the folder"]
    assert "sub/state.json: leads out of the folder" in after(link_folder)
    assert DIGESTS in after(lambda folder: (folder / DIGESTS).unlink())[0]


@pytest.mark.parametrize("names", [["../../etc/hostname"], ["/etc/hostname"], ["a\0b"], ["x" * 5000], [""]])
def test_names_that_no_file_should_have_are_refused(names: list[str], whole: Path) -> None:
    expected = json.loads((whole / DIGESTS).read_text())
    (whole / DIGESTS).write_text(json.dumps({**expected, **dict.fromkeys(names, "0" * 64)}))
    assert len(damage(whole)) == 1


def test_sha256_is_the_published_one(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")  # FIPS 180-2, appendix B.1
    assert sha256_file(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


# --- checkpoints ------------------------------------------------------------------------------
def test_the_newest_good_checkpoint_is_found_and_the_others_are_named(tmp_path: Path) -> None:
    for step in (5, 10, 15):
        commit_folder(tmp_path / f"step-{step:06d}", build(str(step)))
    said: list[str] = []
    assert newest_good(tmp_path, said.append) == tmp_path / "step-000015"
    assert said == []
    (tmp_path / "step-000015" / "weights.bin").write_bytes(b"")
    (tmp_path / "step-000010" / DIGESTS).unlink()
    assert newest_good(tmp_path, said.append) == tmp_path / "step-000005"
    assert [line.split(" is damaged")[0] for line in said] == ["checkpoint step-000015", "checkpoint step-000010"]
    assert all("set aside, trying the one before" in line for line in said)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("damaged-")) == [
        "damaged-step-000010",
        "damaged-step-000015",
    ]
    said.clear()
    assert newest_good(tmp_path, said.append) == tmp_path / "step-000005"
    assert said == []
    assert newest_good(tmp_path / "nothing", said.append) is None


def test_a_damaged_checkpoint_pushes_no_good_one_out(tmp_path: Path) -> None:
    for step in (5, 10):
        commit_folder(tmp_path / f"step-{step:06d}", build(str(step)))
    (tmp_path / "step-000010" / "weights.bin").write_bytes(b"")
    assert newest_good(tmp_path, lambda _: None) == tmp_path / "step-000005"
    commit_folder(tmp_path / "step-000007", build("7"))
    rotate(tmp_path, 1)
    assert checkpoints(tmp_path) == [tmp_path / "step-000007"]


def test_a_pinned_checkpoint_stays_whoever_rotates(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        commit_folder(tmp_path / f"step-{step:06d}", build(str(step)))
    pin(tmp_path / "step-000001", "the loss at step 2 is nan")
    assert pins(tmp_path) == {"step-000001": "the loss at step 2 is nan"}
    rotate(tmp_path, 1)
    assert [checkpoint_step(path) for path in checkpoints(tmp_path)] == [1, 3]


@pytest.mark.parametrize("name", ["step-", "step-x", "step-1-2", "stop-1", f"{STAGING}step-000001", "step--1"])
def test_other_names_are_no_checkpoints(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    assert checkpoint_step(tmp_path / name) == -1
    assert checkpoints(tmp_path) == []


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=st.sets(st.integers(0, 2_000_000), min_size=1, max_size=8),
    keep=st.integers(-1, 9),
    pins=st.integers(0, 3),
    draw=st.randoms(use_true_random=False),
)
def test_rotation_goes_by_step_number(
    steps: set[int], keep: int, pins: int, draw: random.Random, tmp_path: Path
) -> None:
    folder = tmp_path / "checkpoints"
    shutil.rmtree(folder, ignore_errors=True)
    for step in draw.sample(sorted(steps), len(steps)):
        path = folder / f"step-{step:06d}"
        path.mkdir(parents=True)
        os.utime(path, (draw.randrange(10**9), draw.randrange(10**9)))  # the clock means nothing
    pinned = draw.sample(sorted(steps), min(pins, len(steps)))
    removed = rotate(folder, keep, [folder / f"step-{step:06d}" for step in pinned])
    left = {checkpoint_step(path) for path in checkpoints(folder)}
    newest = set(sorted(steps)[-max(1, keep) :])
    assert left == newest | set(pinned)
    assert {checkpoint_step(path) for path in removed} == steps - left
    assert hidden(folder) == []


def test_a_pin_may_be_written_as_another_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in (1, 2):
        (tmp_path / f"step-{step}").mkdir()
    monkeypatch.chdir(tmp_path)
    assert rotate(tmp_path, 1, [Path("step-1")]) == []


def test_a_file_in_the_way_of_a_folder_is_a_disk_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DiskError, match="no folder can be made at .*file/below") as caught:
        commit_folder(tmp_path / "file" / "below", lambda folder: pytest.fail("nothing to build in"))
    assert caught.value.where == str(tmp_path / "file" / "below")
