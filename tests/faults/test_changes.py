"""Going on with other settings, another seed or other libraries: refused with the difference, or allowed in so many
words."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli
import tomli_w

from faults.battery import Recorder
from faults.lost import NothingLost
from faults.victims import Victims

pytestmark = [pytest.mark.run, pytest.mark.fault("R20")]


def changed(table: str, key: str, value: Any) -> Callable[[Path], None]:
    """Another value in the run's own recipe."""

    def change(run: Path) -> None:
        tree = tomli.loads((run / "recipe.toml").read_text())
        tree.setdefault(table, {})[key] = value
        (run / "recipe.toml").write_text(tomli_w.dumps(tree))

    return change


def other_library(run: Path) -> None:
    """A run that began with another version of torch."""
    manifest = json.loads((run / "manifest.json").read_text())
    manifest["environment"]["libraries"]["torch"] = "1.0.0"
    (run / "manifest.json").write_text(json.dumps(manifest))


CHANGES = {
    "batch": (changed("trainer", "batch_size", 8), "batch_size: was 4, is 8"),
    "rate": (changed("trainer", "learning_rate", 0.5), "learning_rate: was 0.01, is 0.5"),
    "seed": (changed("run", "seed", 7), "seed"),
    "steps": (changed("trainer", "max_steps", 40), "max_steps: was 4, is 40"),
    "threads": (changed("run", "threads", 2), "threads: was 1, is 2"),
    "library": (other_library, "torch: was '1.0.0'"),
}


def test_what_changed_is_named(lean: Any, victims: Victims, fault: Recorder) -> None:
    lean.content["trainer"] |= {"max_steps": 4, "save_steps": 1}
    recipe = lean.recipe()
    assert victims.run("run", recipe) == 0, victims.said()
    promise = NothingLost(lean.runs / "recipe-001", 1)
    assert victims.run("run", recipe, actions={"step 2": ["send", 15]}) == 143, victims.said()
    stopped, run = lean.runs / "recipe-002", lean.folder / "trials" / "recipe-002"
    for name, (change, difference) in CHANGES.items():
        with fault("R20", f"another {name}").trial(difference):
            shutil.rmtree(run, ignore_errors=True)
            shutil.copytree(stopped, run)
            change(run)
            ended = lean.call("resume", run)
            assert ended.code == 78, ended.err
            assert difference in ended.err, ended.err
            assert (ended.out, "Traceback" in ended.err) == ("", False)
            assert json.loads((run / "state.json").read_text())["status"] == "stopped"
    with fault("R20", "another library, allowed by --other-versions").trial("torch"):
        assert victims.run("resume", run, "--other-versions") == 0, victims.said()
        promise.at_the_end(run)
