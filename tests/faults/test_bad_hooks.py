"""A plugin that raises, exits, returns the wrong thing, or changes what it is handed, at every hook in turn."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from faults.battery import Recorder, amount
from tunesmith.hooks import OBSERVER_HOOKS, RECORD_HOOKS
from tunesmith.oversight import METHODS
from tunesmith.store import checkpoints, damage

pytestmark = [pytest.mark.run, pytest.mark.fault("R14")]

MISSING = 69
RAISES = {"raises": "raise ValueError('no luck')", "exits": "sys.exit(0)"}
SAID = {"raises": "ValueError: no luck", "exits": "SystemExit: 0"}

#: A plugin whose component is one of an installed plugin's, until it goes wrong.
COMPONENT = """\
import importlib, sys
from dataclasses import replace
from pathlib import Path
from tunesmith import hookimpl
import {origin} as origin

@hookimpl
def {hook}():
    (component,) = [component for component in origin.{hook}() if component.name == "{name}"]
    yield replace(component, name="strange", factory="tunesmith_local_stranger:make")

def make(*arguments):
    module, _, function = "{factory}".partition(":")
    call = getattr(importlib.import_module(module), function)
    {body}
"""
LISTING = """\
import sys
from tunesmith import hookimpl

@hookimpl
def {hook}():
    {body}
"""
LAUNCHER = """\
import sys
from dataclasses import dataclass
from tunesmith import Launcher, Settings, hookimpl

@dataclass(frozen=True, kw_only=True)
class LauncherSettings(Settings):
    place: str = "here"

@hookimpl
def tunesmith_launchers():
    yield Launcher(
        name="strange", summary="s", factory="tunesmith_local_stranger:make", settings=LauncherSettings
    )

def make(plan, settings, context):
    arguments, call = (plan, settings, context), lambda *arguments: 0
    {body}
"""
OBSERVER = """\
import sys
from tunesmith import hookimpl

@hookimpl
def {hook}({arguments}):
    {body}
"""


@dataclass(frozen=True)
class Kind:
    """A kind of component: where one is found, how a recipe chooses it, and how it would change its input."""

    hook: str
    origin: str
    name: str
    factory: str
    changes: dict[str, Any]
    settings: int = 0  # which argument the settings are
    mutations: dict[str, str] = field(default_factory=dict)

    def mutated(self) -> dict[str, str]:
        """Ways to change the input, by what is said of them."""
        frozen = f"object.__setattr__(arguments[{self.settings}], list(vars(arguments[{self.settings}]))[0], 'other')"
        return {"changed its settings": f"{frozen}; return found", **self.mutations}


ROWS = "arguments[1].validation.rows[0].update(prompt='other'); return found"
KINDS = (
    Kind(
        "tunesmith_steps",
        "tunesmith_data",
        "normalise",
        "tunesmith_data.steps.normalise:normalise",
        {"data.steps": [{"use": "strange"}]},
    ),
    Kind("tunesmith_loaders", "tunesmith_data", "jsonl", "tunesmith_data.loaders:jsonl", {"data.use": "strange"}),
    Kind(
        "tunesmith_models",
        "tunesmith_transformers",
        "directory",
        "tunesmith_transformers.sources.factories:directory",
        {"model.use": "strange"},
    ),
    Kind(
        "tunesmith_quantizers",
        "tunesmith_qlora",
        "nf4",
        "tunesmith_qlora.quantizers:nf4",
        {"quantizer": {"use": "strange"}},
    ),
    Kind("tunesmith_adapters", "tunesmith_lora", "lora", "tunesmith_lora.adapter:apply", {"adapter.use": "strange"}, 1),
    Kind(
        "tunesmith_trainers",
        "tunesmith_sft",
        "sft",
        "tunesmith_sft.trainer:train",
        {"trainer.use": "strange"},
        2,
        {"changed the rows": ROWS},
    ),
    Kind(
        "tunesmith_evaluators",
        "tunesmith_transformers",
        "perplexity",
        "tunesmith_transformers.evaluation.perplexity:evaluate",
        {"evaluate": [{"use": "strange"}]},
        2,
        {
            "changed the rows": ROWS,
            "changed the weights": "next(arguments[0].model.parameters()).data.add_(1); return found",
        },
    ),
    Kind(
        "tunesmith_exporters",
        "tunesmith_export",
        "adapter",
        "tunesmith_export.adapter:export",
        {"export": [{"use": "strange"}]},
        1,
        {"changed the artifact": "(arguments[0] / 'README.md').write_text('other'); return found"},
    ),
)


@pytest.fixture
def stranger(house: Any) -> Iterator[Any]:
    """Puts a local plugin beside the recipe, and takes it out of Python's memory in the end."""

    def put(text: str) -> None:
        sys.modules.pop("tunesmith_local_stranger", None)
        house.write("stranger.py", text)
        house.content["plugins"] = ["stranger.py"]

    yield put
    sys.modules.pop("tunesmith_local_stranger", None)


def refused(house: Any, *said: str) -> None:
    """Run the recipe, which must end with the plugin's name and version, and never look done."""
    ended = house.call("run", "recipe.toml")
    assert ended.code == MISSING, ended.err
    assert "Traceback" not in ended.err
    assert "defect:" not in ended.err
    message = ended.err[ended.err.index("error: ") :]
    assert "\n  fix: " in message
    for part in said:
        assert part in message, message
    for state in house.states():
        assert state["status"] == "failed"


# --- listing ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("hook", RECORD_HOOKS)
def test_a_hook_that_lists_wrongly(house: Any, stranger: Any, fault: Recorder, hook: str) -> None:
    faults = {**RAISES, "returns the wrong type": "return 3", "yields the wrong type": "yield 'lora'"}
    said = {**SAID, "returns the wrong type": "must yield", "yields the wrong type": "must yield"}
    tally = fault("R14", "a hook that lists components, wrongly")
    for name, body in list(faults.items())[:: amount(1, 2)]:
        with tally.trial(f"{hook} {name}"):
            stranger(LISTING.format(hook=hook, body=body))
            house.recipe({"adapter.use": "strange"})
            refused(house, "plugin local is broken", said[name])


# --- factories --------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.hook)
def test_a_factory_that_misbehaves(house: Any, stranger: Any, fault: Recorder, kind: Kind) -> None:
    bodies = {SAID[name]: body for name, body in RAISES.items()}
    bodies["the contract says"] = "return object()"
    bodies |= {said: f"found = call(*arguments); {body}" for said, body in kind.mutated().items()}
    version = r"'strange' of local [0-9a-f]{12} "
    tally = fault("R14", "a factory that raises, exits, returns the wrong type, or changes its input")
    for said, body in amount(bodies, dict(list(bodies.items())[-2:])).items():
        with tally.trial(f"{kind.name} {said}"):
            stranger(COMPONENT.format(**vars(kind), body=body))
            house.recipe(kind.changes)
            refused(house, said)
            error = house.states()[-1]["error"]
            assert re.search(version, error), error


@pytest.mark.parametrize("said", [*SAID.values(), "an exit code", "changed its settings"])
def test_a_launcher_that_misbehaves(house: Any, stranger: Any, fault: Recorder, said: str) -> None:
    bodies = dict(zip(SAID.values(), RAISES.values(), strict=True))
    bodies["an exit code"] = "return 'done'"
    bodies["changed its settings"] = "object.__setattr__(settings, 'place', 'elsewhere'); return 0"
    with fault("R14", "a launcher that misbehaves").trial(said):
        stranger(LAUNCHER.format(body=bodies[said]))
        house.recipe({"launcher": {"use": "strange"}})
        refused(house, said, "launcher 'strange' of local")


@pytest.mark.parametrize("said", [*SAID.values(), "a partial recipe"])
def test_a_preset_that_misbehaves(house: Any, stranger: Any, fault: Recorder, said: str) -> None:
    bodies = {**dict(zip(SAID.values(), RAISES.values(), strict=True)), "a partial recipe": "return ['lora']"}
    with fault("R14", "a preset that misbehaves").trial(said):
        origin = {"origin": "tunesmith_qlora", "name": "qlora", "factory": "tunesmith_qlora.preset:qlora"}
        stranger(COMPONENT.format(hook="tunesmith_presets", body=bodies[said], **origin))
        house.recipe({"preset": "strange"})
        refused(house, said, "preset 'strange' of local")


# --- the methods of an adapter ----------------------------------------------------------------------
#: Methods that something else than a run calls: the command, after a run without the fault.
LATER = {"load_state": "resume", "load_extra_state": "resume", "load": "evaluate", "merge": "export"}
BROKEN = "found = call(*arguments); found.{method} = lambda *a, **o: broken(); return found"


@pytest.mark.parametrize("method", amount(tuple(METHODS), ("after_step", "state", "save", "parameter_groups")))
def test_a_method_of_an_adapter_that_misbehaves(house: Any, stranger: Any, fault: Recorder, method: str) -> None:
    tally = fault("R14", "a method of an adapter that raises, exits or returns the wrong type")
    wrong = {"the contract says": "return 3"} if METHODS[method] else {}
    bodies = {**dict(zip(SAID.values(), RAISES.values(), strict=True)), **wrong}
    (adapter,) = [kind for kind in KINDS if kind.hook == "tunesmith_adapters"]
    for number, (said, body) in enumerate(amount(bodies, dict(list(bodies.items())[-1:])).items(), 1):
        with tally.trial(f"{method} {said}"):
            flag = house.folder / "flag"
            flag.unlink(missing_ok=True)
            guard = f"if Path({str(flag)!r}).exists(): " + BROKEN.format(method=method)
            text = COMPONENT.format(**vars(adapter), body=f"{guard}\n    return call(*arguments)")
            stranger(f"{text}\ndef broken():\n    {body}\n")
            house.recipe(adapter.changes)
            run = house.runs / f"recipe-{number:03d}"
            words: tuple[str, ...] = ("run", "recipe.toml")
            if method in LATER:
                assert house.call(*words).code == 0
                words = (LATER[method], str(run), *(("--use", "merge") if method == "merge" else ()))
            if LATER.get(method) == "resume":
                (run / "state.json").write_text(json.dumps({"status": "failed"}))
                (run / "result.json").unlink()
                last = checkpoints(run / "checkpoints")[-1]  # so that a step is left to do
                last.rename(house.folder / f"taken-{number}")
            flag.touch()
            ended = house.call(*words)
            assert ended.code == MISSING, ended.err
            assert re.search(r"adapter 'strange' of local [0-9a-f]{12} ", ended.err), ended.err
            assert said in ended.err
            assert "Traceback" not in ended.err


def test_an_adapter_that_fails_in_mid_run_leaves_a_checkpoint(house: Any, stranger: Any, fault: Recorder) -> None:
    (adapter,) = [kind for kind in KINDS if kind.hook == "tunesmith_adapters"]
    flag = house.write("flag", "")
    fail = f"if a[0] == 2 and Path({str(flag)!r}).exists(): raise ValueError('no luck')"
    text = COMPONENT.format(**vars(adapter), body="found = call(*arguments); found.after_step = step; return found")
    stranger(f"{text}\ndef step(*a):\n    {fail}\n")
    house.recipe({**adapter.changes, "trainer.max_steps": 3})
    run = house.runs / "recipe-001"
    with fault("R14", "an adapter that fails at a step, and goes on when it is mended").trial("after_step"):
        refused(house, "ValueError: no luck", "adapter 'strange' of local")
        (kept,) = checkpoints(run / "checkpoints")
        assert (kept.name, damage(kept)) == ("step-000001", [])
        flag.unlink()
        ended = house.call("resume", str(run))
        assert ended.code == 0, ended.err
        steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
        assert steps == [1, 2, 3]


# --- observers --------------------------------------------------------------------------------------
ARGUMENTS = {
    "tunesmith_run_started": ("plan", "plan.recipe.tree.clear(); object.__setattr__(plan, 'stages', ())"),
    "tunesmith_step": ("metrics", "metrics.clear()"),
    "tunesmith_evaluated": ("measures", "measures.clear()"),
    "tunesmith_stage_finished": ("artifact", "artifact = None"),
    "tunesmith_run_failed": ("error", "error = None"),
    "tunesmith_run_finished": ("run", "run.results.clear()"),
}


@pytest.mark.parametrize("hook", OBSERVER_HOOKS)
def test_an_observer_that_misbehaves(house: Any, stranger: Any, fault: Recorder, hook: str) -> None:
    argument, change = ARGUMENTS[hook]
    tally = fault("R14", "an observer that raises, exits or changes what it is told")
    fails = hook == "tunesmith_run_failed"
    bodies = {**RAISES, "changes what it is told": change}
    for name, body in amount(bodies, {"exits": bodies["exits"]}).items():
        with tally.trial(f"{hook} {name}"):
            stranger(OBSERVER.format(hook=hook, arguments=argument, body=body))
            limits = {"trainer.learning_rate": 1e30, "trainer.max_steps": 9, "trainer.max_grad_norm": 0.0}
            house.recipe({"trainer.eval_steps": 1, **(limits if fails else {})})
            ended = house.call("run", "recipe.toml")
            assert ended.code == (70 if fails else 0), ended.err
            assert "Traceback" not in ended.err
            heard = ended.err.count(f"observer {hook} of plugin local ")
            assert heard == (name in RAISES), ended.err
            if name in RAISES:
                assert f"is off for the rest of this run: {SAID[name]}" in ended.err
            run: Path = max(house.runs.iterdir())
            if not fails:
                lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
                assert [line["step"] for line in lines] == [1, 2]
                assert all("loss" in line for line in lines)
                assert json.loads((run / "results.json").read_text())["main"]["after"]["measures"]
