"""Rotation: the last, the best and the pinned checkpoints stay, and an old one goes when the next is committed."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from faults.battery import Recorder, amount
from faults.calls import CHANGING, brink, read_calls
from faults.saves import SAVES, Saves
from faults.victims import Victims
from tunesmith.store import checkpoint_step, checkpoints, commit_folder, damage, pin, rotate

pytestmark = pytest.mark.fault("R19")

EXAMPLES = amount(300, 25)


def test_rotation_keeps_the_last_the_best_and_the_pinned(tmp_path: Path, fault: Recorder, monkeypatch: Any) -> None:
    monkeypatch.setattr("os.fsync", lambda descriptor: None)  # the order of names is looked at, not the disk
    count = fault("R19", "random steps, best, pins, limits and times of files")

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        growth=st.lists(st.integers(1, 400_000), min_size=1, max_size=8),
        keep=st.integers(-1, 4),
        pinned=st.sets(st.integers(0, 7)),
        best=st.lists(st.integers(0, 7), min_size=8, max_size=8),
        draw=st.randoms(use_true_random=False),
    )
    def check(growth: list[int], keep: int, pinned: set[int], best: list[int], draw: random.Random) -> None:
        with count.trial(f"{growth}, keep {keep}, pinned {pinned}, best {best}"):
            rotated(tmp_path / "checkpoints", growth, keep, pinned, best, draw)

    check()


def rotated(folder: Path, growth: list[int], keep: int, pinned: set[int], best: list[int], draw: random.Random) -> None:
    """Commit one checkpoint after the other as a trainer does, and look at what is there after each."""
    shutil.rmtree(folder, ignore_errors=True)
    steps: list[int] = []
    safe: set[int] = set()
    for number, more in enumerate(growth):
        steps.append((steps[-1] if steps else 0) + more)
        path = folder / f"step-{steps[-1]:06d}"
        commit_folder(path, lambda place, step=steps[-1]: (place / "state.json").write_text(str(step)))  # type: ignore[misc]
        os.utime(path, (draw.randrange(10**9), draw.randrange(10**9)))  # the clock means nothing
        if number in pinned:
            pin(path, "for the test")
            safe.add(steps[-1])
        there = {checkpoint_step(kept) for kept in checkpoints(folder)}
        chosen = min(there, key=lambda step: (abs(step - steps[min(best[number], number)]), step))
        rotate(folder, keep, [folder / f"step-{chosen:06d}"])
        left = {checkpoint_step(kept) for kept in checkpoints(folder)}
        assert steps[-1] in left, "the last one is gone"
        assert chosen in left, "the best one is gone"
        assert safe <= left, "a pinned one is gone"
        assert left == {*sorted(there)[-max(1, keep) :], chosen, *safe}
        assert not [problem for kept in checkpoints(folder) for problem in damage(kept)]
        assert not list(folder.glob(".staging-*"))


@pytest.mark.run
def test_an_old_checkpoint_goes_after_the_next_is_on_the_disk(lean: Any, victims: Victims, fault: Recorder) -> None:
    save = "a later checkpoint, LoRA"
    adapter, (begin, end) = SAVES[save]
    stage = Saves(lean, victims, adapter)
    with brink(victims, ["run", stage.recipe], stage.run, begin, lean.folder / "brink", end) as at:
        at.go("-e", f"trace={','.join(CHANGING)}")
        calls = [(call.name, call.arguments) for call in read_calls(at.log)]
    with fault("R19", "the order of the system calls of a save").trial(save):
        place = str(stage.run / "checkpoints")
        renamed = next(i for i, (name, text) in enumerate(calls) if name == "rename" and "/step-000002" in text)
        flushed = next(i for i, (name, text) in enumerate(calls) if name == "fsync" and i > renamed)
        assert calls[flushed][1].endswith(f"<{place}>")
        touched = [i for i, (name, text) in enumerate(calls) if "step-000001" in text and name != "openat"]
        assert touched
        assert min(touched) > flushed, "the old checkpoint is touched before the new one is safe"
