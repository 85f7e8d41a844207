"""Checkpoints that are cut, flipped, incomplete or not this run's: noticed, named, and never loaded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli
import tomli_w

from faults.battery import Recorder, amount
from faults.lost import NothingLost
from faults.victims import Victims
from tunesmith.testing.tiny import tiny_folder as another_model

pytestmark = pytest.mark.run

CHECKPOINT = "step-000003"
FILES = ("model.safetensors", "optimizer.safetensors", "random.safetensors")
FILES += ("state.json", "trainer_state.json", "digests.json")
FLIPS = 25  # places a file
CONTINUED = amount(FILES, FILES[:1])  # which damaged files `resume` meets, too


class Stopped:
    """A run that was stopped after step 3 with two checkpoints, and copies of it."""

    def __init__(self, house: Any, victims: Victims) -> None:
        self.house, self.victims = house, victims
        house.content["trainer"] |= {"max_steps": 4, "save_steps": 1}
        recipe = house.recipe()
        assert victims.run("run", recipe) == 0, victims.said()
        self.promise = NothingLost(house.runs / "recipe-001", 1)
        assert victims.run("run", recipe, actions={"step 3": ["send", 15]}) == 143, victims.said()
        self.run = house.runs / "recipe-002"
        assert sorted(path.name for path in (self.run / "checkpoints").iterdir()) == ["step-000002", CHECKPOINT]

    def copy(self) -> Path:
        target = self.house.folder / "trials" / "recipe-002"
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(self.run, target)
        return target

    def noticed(self, run: Path, name: str) -> None:
        """`doctor` exits with 65, names the file, and says what can still be used."""
        ended = self.house.call("doctor", run, "--json")
        assert ended.code == 65, ended.err
        found = json.loads(ended.out)
        (item,) = [item for item in found["items"] if item["problems"]]
        assert Path(item["path"]).name == CHECKPOINT
        # a digest that changed accuses the file that it is of
        assert name == "digests.json" or any(name in problem for problem in item["problems"])
        assert Path(found["usable"]["main"]["checkpoint"]).name == "step-000002"

    def falls_back(self, run: Path, name: str) -> None:
        """`resume` says which checkpoint is damaged, goes on from the one before, and ends in the same bits."""
        assert self.victims.run("resume", run) == 0, self.victims.said()
        said = self.victims.said()
        assert said.count(f"checkpoint {CHECKPOINT} is damaged") == 1, said
        assert name in said or name == "digests.json"
        assert "going on from step-000002" in said
        self.promise.at_the_end(run)


@pytest.fixture
def stopped(lean: Any, victims: Victims) -> Stopped:
    return Stopped(lean, victims)


@pytest.mark.fault("R7", "R8", "R9")
def test_a_file_that_is_cut_flipped_or_missing(stopped: Stopped, fault: Recorder) -> None:
    def spoiled(what: Any, name: str, how: str, spoil: Callable[[Path], Any], *, resumed: bool) -> None:
        with what.trial(f"{name} {how}"):
            run = stopped.copy()
            spoil(run / "checkpoints" / CHECKPOINT / name)
            stopped.noticed(run, name)
            if resumed:
                stopped.falls_back(run, name)

    cut, flipped = fault("R7", "at 0, 1, 50 and 99 %"), fault("R8", f"at {FLIPS} places of each file")
    missing = fault("R9", "a file missing")
    for name in FILES:
        content = (stopped.run / "checkpoints" / CHECKPOINT / name).read_bytes()
        for share in (0, 1, 50, 99):
            kept = content[: len(content) * share // 100]
            resumed = name in CONTINUED and (share == 50 or amount(True, False))
            spoiled(cut, name, f"at {share} %", lambda path, kept=kept: path.write_bytes(kept), resumed=resumed)
        for place in range(FLIPS):
            at = place * (len(content) - 1) // (FLIPS - 1)
            changed = bytearray(content)
            changed[at] ^= 1 << place % 8
            resumed = name in CONTINUED[1:] and place == 12
            spoiled(flipped, name, f"byte {at}", lambda path, new=changed: path.write_bytes(new), resumed=resumed)
        spoiled(missing, name, "missing", Path.unlink, resumed=name in CONTINUED[1:])


@pytest.mark.fault("R9")
def test_what_belongs_to_another_run_is_refused_by_name(
    stopped: Stopped, lean: Any, victims: Victims, fault: Recorder
) -> None:
    recipe = lean.recipe({"run.seed": 7})
    assert victims.run("run", recipe, actions={"step 3": ["send", 15]}) == 143, victims.said()
    other = lean.runs / "recipe-003" / "checkpoints" / CHECKPOINT
    swapped = fault("R9", "a file of another run")
    for name in FILES:
        with swapped.trial(name):
            run = stopped.copy()
            shutil.copy2(other / name, run / "checkpoints" / CHECKPOINT / name)
            if name == "digests.json":  # then it is every other file that differs
                assert lean.call("doctor", run).code == 65
            else:
                stopped.noticed(run, name)

    with fault("R9", "a checkpoint of another run").trial(other.name):
        run = stopped.copy()
        shutil.rmtree(run / "checkpoints" / CHECKPOINT)
        shutil.copytree(other, run / "checkpoints" / CHECKPOINT)
        refused(victims, run, 65, "does not belong to this run: fingerprint differ")

    with fault("R9", "another rank").trial("4 to 8"):
        run = stopped.copy()
        tree = tomli.loads((run / "recipe.toml").read_text())
        tree["adapter"]["rank"] = 8
        (run / "recipe.toml").write_text(tomli_w.dumps(tree))
        refused(victims, run, 78, "rank: was 4, is 8")

    with fault("R9", "another base").trial("other weights under the same name"):
        run = stopped.copy()
        place = Path(lean.content["model"]["source"])
        kept = lean.folder / "kept"
        shutil.copytree(place, kept)
        try:
            another_model(place, seed=1)
            refused(victims, run, 78, "model.safetensors changed")
        finally:
            shutil.rmtree(place)
            shutil.copytree(kept, place)
        assert victims.run("resume", run) == 0, victims.said()
        stopped.promise.at_the_end(run)


def refused(victims: Victims, run: Path, codes: int | tuple[int, ...], reason: str) -> None:
    """`resume` refuses and names what does not fit; the run is not done, and nothing was trained."""
    before = (run / "metrics.jsonl").read_bytes()
    code = victims.run("resume", run)
    said = victims.said()
    assert code in (codes if isinstance(codes, tuple) else (codes,)), f"exit {code}: {said}"
    assert reason in said, said
    assert "Traceback" not in said
    assert json.loads((run / "state.json").read_text())["status"] != "done"
    assert (run / "metrics.jsonl").read_bytes() == before
