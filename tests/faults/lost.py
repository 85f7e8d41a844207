"""Nothing is lost: all of what that means, in one place."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from faults.victims import PATIENCE
from tunesmith.store import checkpoint_step, checkpoints, damage


def steps(run: Path) -> list[int]:
    """The steps in the metrics log, without a last line that is cut."""
    return [record["step"] for record in _lines(run / "metrics.jsonl")]


def phase(run: Path) -> str:
    """The phase that a run entered last."""
    found = [event["phase"] for event in _lines(run / "events.jsonl") if event["event"] == "phase"]
    return found[-1] if found else ""


def status(run: Path) -> str:
    """The status in a run's own file."""
    return str(json.loads((run / "state.json").read_text())["status"])


def weights(run: Path) -> dict[str, str]:
    """The sha256 of every file of weights in a run's artifact."""
    files = sorted((run / "artifact").glob("*.safetensors"))
    assert files, f"{run} has no weights"
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in files}


def content(folder: Path) -> dict[str, str]:
    """The sha256 of every file below a folder."""
    return {
        path.relative_to(folder).as_posix(): sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def until(true: Callable[[], bool]) -> None:
    """Wait until something is true."""
    limit = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < limit, "the process does not get on"
        time.sleep(0.001)


@dataclass
class NothingLost:
    """What must hold for a run that was interrupted, beside one of the same recipe that was not.

    Args:
        untouched: the finished run of the same recipe.
        save_steps: steps between two checkpoints.
        others: runs besides it that nothing may touch.
    """

    untouched: Path
    save_steps: int
    others: Iterable[Path] = ()
    before: dict[Path, dict[str, str]] = field(init=False)

    def __post_init__(self) -> None:
        self.before = {run: content(run) for run in (self.untouched, *self.others)}
        self.steps = steps(self.untouched)
        self.weights = weights(self.untouched)
        self.whole(self.untouched)

    def at_the_fault(self, run: Path) -> None:
        """Right after the fault: what is committed is whole, and no more than one interval of steps is gone."""
        kept = checkpoints(run / "checkpoints")
        broken = [f"{path.name}: {problem}" for path in kept for problem in damage(path)]
        assert not broken, f"committed checkpoints are damaged: {broken}"
        last, newest = max([0, *steps(run)]), checkpoint_step(kept[-1]) if kept else 0
        assert last - newest <= self.save_steps, f"steps {newest + 1} to {last} are gone"
        if (run / "state.json").exists() and status(run) == "done":
            self.whole(run)

    def at_the_end(self, run: Path) -> None:
        """When it was continued to its end: the same bits, every step once, nothing left over, nothing else touched."""
        self.whole(run)
        assert weights(run) == self.weights, "the weights are not those of the uninterrupted run"
        for other, files in self.before.items():
            assert content(other) == files, f"{other.name} was touched"

    def whole(self, run: Path) -> None:
        """What holds for every run that is done."""
        assert status(run) == "done", f"the run is {status(run)}"
        assert steps(run) == self.steps, f"steps in the metrics log: {steps(run)}"
        left = [path.relative_to(run).as_posix() for path in run.rglob(".staging-*")]
        assert not left, f"left over: {left}"
        assert not damage(run / "artifact"), damage(run / "artifact")
        assert steps(run) == list(range(1, len(steps(run)) + 1))


def _lines(path: Path) -> list[dict[str, Any]]:
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.split("\n")[:-1] if line]
