"""Losses and gradients that are not finite, memory that ends, clocks that jump: in real runs, at chosen steps."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from faults.battery import Recorder, amount
from faults.lost import NothingLost, content, steps
from faults.victims import Victims
from tunesmith.store import checkpoint_step, checkpoints, pins

pytestmark = pytest.mark.run

STEPS, MICRO = 6, 2  # optimizer steps, and micro-batches of each
KINDS = [("loss", "nan"), *amount([("gradient", "inf"), ("loss", "inf"), ("gradient", "nan")], [])]


@pytest.fixture
def promise(house: Any, victims: Victims) -> NothingLost:
    """A recipe with two micro-batches a step, and a run of it that met nothing."""
    house.content["trainer"] |= {
        "max_steps": STEPS,
        "save_steps": 1,
        "batch_size": 2,
        "gradient_accumulation_steps": MICRO,
    }
    assert victims.run("run", house.recipe()) == 0, victims.said()
    return NothingLost(house.runs / "recipe-001", 1)


def micro(step: int, part: int) -> str:
    """The point at which the loss of one of a step's micro-batches is there; both count from 1."""
    return f"micro {(step - 1) * MICRO + part}"


@pytest.mark.fault("R13")
@pytest.mark.parametrize(("kind", "value"), KINDS)
def test_what_is_not_finite_stops_before_the_update(
    house: Any, victims: Victims, fault: Recorder, promise: NothingLost, kind: str, value: str
) -> None:
    count = fault("R13", f"{value} {kind} in one micro-batch of two")
    places = [(1, 1), (4, 1), (4, 2), (STEPS, 2)]
    for number, (step, part) in enumerate(amount(places, places[1:2]), 2):
        run = house.runs / f"recipe-{number:03}"
        with count.trial(f"step {step}, micro-batch {part}"):
            poison = {micro(step, part): ["poison", kind, float(value)]}
            code = victims.run("run", house.folder / "recipe.toml", actions=poison)
            said = victims.said()
            assert code == 70, f"exit {code}: {said[-2000:]}"
            assert f"at step {step} is {'nan' if kind == 'gradient' else value}" in said or f"step {step} is" in said
            assert "stopped before the update" in said
            assert steps(run) == list(range(1, step))
            promise.at_the_fault(run)
            if step > 1:
                newest = checkpoints(run / "checkpoints")[-1]
                assert checkpoint_step(newest) == step - 1
                assert list(pins(run / "checkpoints")) == [newest.name]
                assert newest.name in said
                kept = content(newest)
            assert victims.run("resume", run) == 0, victims.said()
            promise.at_the_end(run)
            if step > 1:
                assert content(newest) == kept, "the pinned checkpoint is not there any more"


@pytest.mark.fault("R13")
def test_a_spike_is_logged_as_it_was(house: Any, victims: Victims, fault: Recorder, promise: NothingLost) -> None:
    count = fault("R13", "a spike in one micro-batch")
    with count.trial("a thousand times"):
        run = house.runs / "recipe-002"
        spike = {micro(3, 1): ["poison", "spike", 1e3]}
        assert victims.run("run", house.folder / "recipe.toml", actions=spike) == 0, victims.said()
        losses = [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]
        assert len(losses) == STEPS
        assert losses[2] > 100 * max(losses[:2])
    with count.trial("beyond what float32 holds"):
        run = house.runs / "recipe-003"
        spike = {micro(3, 1): ["poison", "spike", 1e38]}
        assert victims.run("run", house.folder / "recipe.toml", actions=spike) == 70, victims.said()
        promise.at_the_fault(run)
        assert victims.run("resume", run) == 0, victims.said()
        promise.at_the_end(run)


@pytest.mark.fault("R21")
def test_memory_that_ends_names_the_setting_to_change(
    house: Any, victims: Victims, fault: Recorder, promise: NothingLost
) -> None:
    places: list[tuple[str, list[Any]]] = [
        ("what torch raises for a GPU, in a step", [micro(3, 1), "exhaust"]),
        *amount(
            [
                ("a limit of the process's memory, in a step", [micro(5, 1), "limit", 0]),
                ("a limit of the process's memory, when the model is loaded", ["phase load model", "limit", 0]),
                ("a limit of the process's memory, in the evaluation", ["phase evaluate after", "limit", 0]),
            ],
            [],
        ),
    ]
    for number, (what, (point, *action)) in enumerate(places, 2):
        run = house.runs / f"recipe-{number:03}"
        with fault("R21", what).trial(point):
            code = victims.run("run", house.folder / "recipe.toml", actions={point: action})
            said = victims.said()
            assert code == 71, f"exit {code}: {said[-2000:]}"
            assert "out of memory" in said
            assert "batch_size" in said
            assert "Traceback" not in said
            promise.at_the_fault(run)
            assert victims.run("resume", run) == 0, victims.said()
            promise.at_the_end(run)


@pytest.mark.fault("R18")
@pytest.mark.parametrize(("what", "seconds"), [("back an hour", -3600), *amount([("forward a day", 86400)], [])])
def test_a_clock_that_jumps(
    house: Any, victims: Victims, fault: Recorder, promise: NothingLost, what: str, seconds: int
) -> None:
    run = house.runs / "recipe-002"
    with fault("R18", what).trial("between steps 2 and 3"):
        jump = {"step 2": ["clock", seconds], "step 4": ["send", 15]}
        assert victims.run("run", house.folder / "recipe.toml", actions=jump) == 143, victims.said()
        kept = checkpoints(run / "checkpoints")
        assert [checkpoint_step(path) for path in kept] == [3, 4]
        # as a file system would stamp them: what was written after the jump seems older, or from tomorrow
        for path in kept:
            for file in (path, *path.iterdir()):
                stamp = file.stat().st_mtime + seconds * (checkpoint_step(path) > 3)
                os.utime(file, (stamp, stamp))
        promise.at_the_fault(run)
        assert victims.run("resume", run, actions={"step 5": ["clock", -seconds]}) == 0, victims.said()
        promise.at_the_end(run)
        assert [checkpoint_step(path) for path in checkpoints(run / "checkpoints")] == [5, 6]
        durations(run)


def durations(run: Path) -> None:
    """Seconds in a run's files only grow, and no duration is below 0 or longer than the test."""
    events = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    begins = [number for number, event in enumerate(events) if event["event"] in ("started", "resumed")]
    for begin, end in zip(begins, [*begins[1:], len(events)], strict=True):
        seconds = [event["seconds"] for event in events[begin:end]]
        assert seconds == sorted(seconds)
    result = json.loads((run / "results.json").read_text())["main"]
    assert all(0 <= value < 600 for value in (*result["seconds"].values(), result["training"]["seconds"]))
