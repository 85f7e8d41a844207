"""Recipes whose saves are looked at call by call, and what must come of each."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from faults.battery import amount
from faults.calls import Brink, need_strace
from faults.lost import NothingLost, content, status
from faults.victims import Victims

LORA = {"use": "lora", "rank": 4, "dropout": 0.1}
#: What is saved between two points of a run: the first checkpoint, one that another gives way to, the result.
FIRST, LATER, RESULT = ("step 1", "step 2"), ("step 2", "step 3"), ("phase commit", None)
SAVES = {
    "a later checkpoint, LoRA": (LORA, LATER),
    **amount({"the first checkpoint, LoRA": (LORA, FIRST), "the artifact and the end, LoRA": (LORA, RESULT)}, {}),
}


class Saves:
    """A recipe, a finished run of it, and one that stands before a save."""

    def __init__(self, house: Any, victims: Victims, adapter: dict[str, Any]) -> None:
        need_strace()
        self.house, self.victims = house, victims
        house.content["adapter"] = adapter
        house.content["trainer"] |= {"max_steps": 4, "save_steps": 1, "save_total_limit": 1}
        self.recipe = house.recipe()
        assert victims.run("run", self.recipe) == 0, victims.said()
        self.promise = NothingLost(house.runs / "recipe-001", 1)
        self.run = house.runs / "recipe-002"
        self.continued: set[str] = set()

    def copy(self, name: str) -> Path:
        """The run as it is now, in another place: nobody holds it there."""
        target = self.house.folder / "trials" / name
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(self.run, target)
        return target

    def survives(self, run: Path) -> None:
        """Look at what a fault left, and go on from there; of folders that are the same, from one."""
        self.promise.at_the_fault(run)
        state = status(run) + str(sorted(plain(content(run)).items()))
        if state not in self.continued:
            self.continued.add(state)
            if status(run) != "done":
                assert self.victims.run("resume", run) == 0, self.victims.said()
            self.promise.at_the_end(run)


def plain(files: dict[str, str]) -> dict[str, str]:
    """A folder's content without what tells two processes apart: names made at random, times, messages."""
    return {
        re.sub(r"(\.staging-.+?)-\d{2,}(?=/|$)", r"\1", re.sub(r"\.tmp\w+", ".tmp", name)): digest
        for name, digest in files.items()
        if name not in ("events.jsonl", "lock", "state.json", "error.txt")
    }


def each_call(at: Brink) -> Iterator[tuple[str, int]]:
    """Every call of the save, and which one of its name it is."""
    for name, times in sorted(at.counted().items()):
        yield from ((name, number) for number in range(1, times + 1))
