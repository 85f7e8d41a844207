"""SIGKILL at a random time, again and again in one run: it ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from faults.battery import Recorder, Tally, amount
from faults.lost import NothingLost, phase, steps, until
from faults.victims import Victims

pytestmark = [pytest.mark.run, pytest.mark.fault("R1")]

STEPS = 20
PLACES = ("train", "train", "train", "train", "evaluate after", "commit")
LORA = {"use": "lora", "rank": 4, "dropout": 0.1}
PAIRS = [{"prompt": f"{a}+{b}=", "chosen": str(a + b), "rejected": str(a + b + 1)} for a in range(8) for b in range(6)]


def kill_at_random(victims: Victims, pid: int, run: Path, chance: random.Random, where: str) -> bool:
    """SIGKILL somewhere within some step, its saving included, or within a later phase; False when it came too late."""
    if where == "train":
        goal = min(max([0, *steps(run)]) + chance.randint(1, 3), STEPS - 1)
        until(lambda: phase(run) == "train" and max([0, *steps(run)]) >= goal)
        time.sleep(chance.uniform(0, 0.06))
    else:
        until(lambda: phase(run) in (where, "commit"))
        time.sleep(chance.uniform(0, 0.01))
    os.kill(pid, signal.SIGKILL)
    code = victims.wait(pid)
    assert code in (-signal.SIGKILL, 0), victims.said()
    return code != 0


@pytest.mark.parametrize(
    ("name", "adapter", "trainer", "save_steps"),
    [
        ("LoRA", LORA, {"use": "sft"}, 1),
        ("full", {"use": "full"}, {"use": "sft"}, 2),
        ("DPO", LORA, {"use": "dpo"}, 1),
    ],
    ids=["lora", "full", "dpo"],
)
def test_a_killed_run_ends_as_if_it_had_not_been(
    house: Any, victims: Victims, fault: Recorder, name: str, adapter: Any, trainer: dict[str, Any], save_steps: int
) -> None:
    count = fault("R1", f"in training, evaluation and the commit, {name}")
    house.content["run"]["verdict"] = False
    house.content["adapter"] = adapter
    house.content["trainer"] |= {"max_steps": STEPS, "save_steps": save_steps, **trainer}
    if trainer["use"] == "dpo":
        house.rows(PAIRS)
        house.content["evaluate"] = [{"use": "preference-accuracy"}]
    recipe = house.recipe()
    assert victims.run("run", recipe) == 0, victims.said()
    promise = NothingLost(house.runs / "recipe-001", save_steps)
    chance = random.Random()
    while count.injected < amount(22, 2):
        run = house.runs / f"recipe-{len(list(house.runs.iterdir())) + 1:03}"
        kills(house, victims, run, promise, count, chance)


def kills(house: Any, victims: Victims, run: Path, promise: NothingLost, count: Tally, chance: random.Random) -> None:
    """One run that is killed and resumed until it gets to its end."""
    pid = victims.start("run", house.folder / "recipe.toml")
    places = list(PLACES) if amount(True, False) else chance.sample(PLACES[3:], 2)
    for where in sorted(places, key=PLACES.index):
        if not kill_at_random(victims, pid, run, chance, where):
            break
        with count.trial(f"{run.name} in {where!r}"):
            promise.at_the_fault(run)
            ended = house.call("runs", run, "--json")
            assert ended.code == 0, ended.err
            (listed,) = json.loads(ended.out)
            assert listed["status"] == "interrupted"
            assert listed["next"].startswith("tunesmith resume ")
        pid = victims.start("resume", run)
    else:
        assert victims.wait(pid) == 0, victims.said()
    promise.at_the_end(run)
    same_figures(promise.untouched, run)


def same_figures(untouched: Path, killed: Path) -> None:
    """A run that was killed reports what one that was not reports."""
    first, second = (json.loads((run / "results.json").read_text())["main"] for run in (untouched, killed))
    assert second["training"]["metrics"] == pytest.approx(first["training"]["metrics"])
    assert second["before"] == first["before"]
    assert second["after"] == first["after"]
