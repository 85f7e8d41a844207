"""Whole runs of toy components: what is written, what is left when something goes wrong, and how it goes on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tunesmith import (
    Context,
    DataError,
    DiskError,
    LockedError,
    MemoryExhausted,
    NumericalError,
    PluginError,
    RecipeError,
    Registry,
    Stopped,
    TunesmithError,
    hookimpl,
)
from tunesmith.artifact import load_artifact, read_card
from tunesmith.context import SilentReporter
from tunesmith.folder import RunFolder
from tunesmith.plan import make_plan
from tunesmith.recipe import read
from tunesmith.run import Run, resume, start
from tunesmith.store import damage

TOY = Path(__file__).with_name("toy_core.py")

SINGLE = """\
[model]
source = "toy:base.txt"
[data]
use = "rows"
[adapter]
use = "shift"
[trainer]
use = "pull"
[[evaluate]]
use = "distance"
"""

PIPELINE = """\
[stages.first]
model.source = "toy:base.txt"
data.use = "rows"
adapter.use = "shift"
trainer.use = "pull"
evaluate = [{use = "distance"}]
[stages.second]
model.from = "first"
data.use = "rows"
trainer.use = "pull"
evaluate = [{use = "distance"}]
"""


class Heard(SilentReporter):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, message: str) -> None:
        self.lines.append(message)

    def warn(self, message: str) -> None:
        self.lines.append(f"warning: {message}")


class Bench:
    """A folder with a recipe, and the toys to run it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runs = folder / "runs"
        self.heard = Heard()
        self.registry = Registry()
        self.registry.add_file(TOY)
        module = sys.modules["tunesmith_local_toy_core"]
        self.faults: dict[str, Any] = module.FAULTS
        self.seen: list[Any] = module.SEEN
        (folder / "base.txt").write_text("0")

    def start(self, text: str = SINGLE, *sets: str, **options: Any) -> Run:
        path = self.folder / "a.toml"
        path.write_text(text)
        return start(make_plan(read(path, sets), self.registry), self.registry, self.heard, base=self.runs, **options)

    def resume(self, number: int = 1, other_versions: bool = False) -> Run:
        return resume(self.run(number), self.registry, self.heard, other_versions=other_versions)

    def run(self, number: int = 1) -> Path:
        return self.runs / f"a-{number:03d}"

    def state(self, number: int = 1) -> dict[str, Any]:
        return RunFolder(self.run(number)).state

    def steps(self, number: int = 1, stage: str = "main") -> list[int]:
        found = lines(self.run(number) / "metrics.jsonl")
        return [line["step"] for line in found if line["stage"] == stage]

    def fail_at(self, step: int, fault: Callable[[], Any]) -> None:
        self.faults["step"] = lambda at, context: fault() if at == step else None


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr("os.fsync", lambda descriptor: None)  # tests/test_store.py is about it; here it only costs time
    monkeypatch.setattr("gc.collect", lambda: 0)
    made = Bench(tmp_path)
    made.seen.clear()
    yield made
    made.faults.clear()


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def raising(error: BaseException) -> Callable[[], Any]:
    def fault() -> Any:
        raise error

    return fault


# --- a run that goes well ---------------------------------------------------------------------
def test_a_run_leaves_everything_it_promises(bench: Bench) -> None:
    run = bench.start(SINGLE, "export=[{use='copy', path='out.json'}]", "data.drop=1", "run.max_lost_rows=0.2")
    assert run.folder == bench.run()
    assert sorted(path.name for path in run.folder.iterdir()) == [
        "artifact",
        "checkpoints",
        "evaluation-before.json",
        "events.jsonl",
        "ledger.jsonl",
        "lock",
        "manifest.json",
        "metrics.jsonl",
        "recipe.toml",
        "report.html",
        "result.json",
        "results.json",
        "state.json",
    ]
    assert bench.state()["status"] == "done"
    assert RunFolder(run.folder).status == "done"
    assert RunFolder(run.folder).holder() == {}
    assert bench.steps() == [1, 2, 3, 4]

    manifest = RunFolder(run.folder).manifest
    assert manifest["plan"]["stages"][0]["fingerprint"] == run.plan.stages[0].fingerprint
    assert manifest["recipe_folder"] == str(bench.folder)
    assert "libraries" in manifest["environment"]

    result = json.loads((run.folder / "results.json").read_text())["main"]
    assert result == run.results["main"].describe()
    assert result["before"]["measures"]["distance"]["value"] == 1.0
    assert result["after"]["measures"]["distance"]["value"] == 0.0625
    assert result["after"]["samples"][0]["row"] == "rows:7"
    assert result["training"]["steps"] == 4
    assert (result["training"]["trainable_parameters"], result["training"]["parameters"]) == (1, 2)
    assert result["ledger"]["dropped_reasons"] == {"not wanted": 1}
    assert result["ledger"]["rows_in"] == 8
    assert result["ledger"]["trained"] + result["ledger"]["held_out"] + result["ledger"]["dropped"] == 8
    assert result["exports"] == [str(bench.folder / "out.json")]
    assert (bench.folder / "out.json").read_text() == "0.9375"

    assert damage(run.folder / "artifact") == []
    assert "| distance | 1 | 0.0625 |" in (run.folder / "artifact" / "README.md").read_text()
    card = read_card(run.folder / "artifact")
    assert card["base"]["source"] == "toy:base.txt"
    assert card["fingerprint"] == run.plan.stages[0].fingerprint


def test_a_run_says_who_holds_another_one_of_its_recipe(bench: Bench) -> None:
    other = RunFolder.create(bench.runs, "a")
    RunFolder.create(bench.runs, "ab")  # of another recipe
    bench.start(SINGLE)
    said = [text for text in bench.heard.lines if "is held by process" in text]
    other.release()
    assert len(said) == 1
    assert said[0].startswith(f"a-001 is held by process {os.getpid()} on ")
    assert said[0].endswith("; this run is a-002")
    assert bench.start(SINGLE).folder.name == "a-003"
    assert sum("is held by process" in text for text in bench.heard.lines) == 1


def test_events_tell_the_parts_in_order(bench: Bench) -> None:
    bench.start()
    events = lines(bench.run() / "events.jsonl")
    names = [event.get("phase", event["event"]) for event in events if event["event"] != "note"]
    assert names == [
        "started", "load data", "load model", "evaluate before", "train", "evaluate after", "commit",
        "stage-finished", "done",
    ]  # fmt: skip
    assert [event["seconds"] for event in events] == sorted(event["seconds"] for event in events)


def test_the_same_plan_twice_gives_the_same_bits(bench: Bench) -> None:
    first, second = bench.start(), bench.start()
    assert second.folder.name == "a-002"
    assert (first.folder / "artifact" / "shift.json").read_bytes() == (
        second.folder / "artifact" / "shift.json"
    ).read_bytes()
    assert first.results["main"].after == second.results["main"].after


def test_the_recipe_that_is_kept_is_the_resolved_one(bench: Bench) -> None:
    bench.start(f"preset = 'quick'\n{SINGLE}", "trainer.rate=0.75")
    kept = read(bench.run() / "recipe.toml").tree
    assert kept["trainer"] == {"use": "pull", "rate": 0.75, "steps": 3}
    assert kept["adapter"]["rank"] == 7


def test_a_quantizer_marks_the_model_and_gives_its_options(bench: Bench) -> None:
    bench.start(SINGLE, "quantizer.use=rough")
    assert bench.seen[0] == ("load", ("toy:base.txt", "causal-lm", {"bits": 4}))
    assert read_card(bench.run() / "artifact")["base"]["quantized"] == "rough"


# --- a run that goes wrong --------------------------------------------------------------------
OTHER = object()
PLACES = {
    "loader": "loader 'rows'",
    "model": "model 'toy'",
    "quantizer": "quantizer 'rough'",
    "adapter": "adapter 'shift'",
    "trainer": "trainer 'pull'",
    "evaluator": "evaluator 'distance'",
    "exporter": "exporter 'copy'",
    "save": "adapter 'shift'",
}
EVERYTHING = ("quantizer.use=rough", "export=[{use='copy', path='out.json'}]")


@pytest.mark.parametrize(
    "error", [KeyError("oops"), SystemExit(0), BaseException("panic")], ids=lambda e: type(e).__name__
)
@pytest.mark.parametrize("place", PLACES)
def test_a_plugin_that_fails_is_named_and_nothing_looks_done(place: str, error: BaseException, bench: Bench) -> None:
    bench.faults[place] = raising(error)
    with pytest.raises(PluginError, match=f"{PLACES[place]} of local .* failed: {type(error).__name__}") as caught:
        bench.start(SINGLE, *EVERYTHING)
    assert "test_run.py" in str(caught.value.where)
    state = bench.state()
    assert (state["status"], state["exit_code"], state["stage"]) == ("failed", 69, "main")
    assert PLACES[place] in state["error"]
    assert type(error).__name__ in (bench.run() / "error.txt").read_text()
    assert lines(bench.run() / "events.jsonl")[-1]["event"] == "failed"
    assert RunFolder(bench.run()).holder() == {}
    assert not (bench.run() / "result.json").exists()
    if place != "exporter":
        assert not (bench.run() / "artifact").exists()
    bench.faults.clear()
    assert bench.resume().results["main"].after["measures"]["distance"]["value"] == 0.0625
    assert bench.state()["status"] == "done"
    assert bench.steps() == [1, 2, 3, 4]


@pytest.mark.parametrize("place", [place for place in PLACES if place != "save"])
@pytest.mark.parametrize("value", [None, "text", OTHER, 3], ids=["none", "text", "object", "number"])
def test_a_factory_that_returns_something_else_is_named(place: str, value: object, bench: Bench) -> None:
    bench.faults[place] = lambda: value
    with pytest.raises(PluginError, match=f"{PLACES[place]} of local .* returned {type(value).__name__}; the contract"):
        bench.start(SINGLE, *EVERYTHING)
    assert bench.state()["status"] == "failed"


def test_measures_that_are_none_are_named(bench: Bench) -> None:
    bench.faults["evaluator"] = lambda: {"distance": 0.5}
    with pytest.raises(PluginError, match="evaluator 'distance' of local .* returned float; the contract says Measure"):
        bench.start()


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        (MemoryError(), MemoryExhausted, 71),
        (RuntimeError("CUDA out of memory. Tried to allocate"), MemoryExhausted, 71),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), MemoryExhausted, 71),
        (OSError(28, "No space left on device", "/x/y"), DiskError, 74),
        (RuntimeError("I/O error: No space left on device (os error 28)"), DiskError, 74),
        (NumericalError("the loss is NaN at step 2"), NumericalError, 70),
        (DataError("bad row"), DataError, 65),
    ],
    ids=str,
)
def test_the_machine_s_limits_have_their_own_exit_codes(
    error: Exception, kind: type[TunesmithError], code: int, bench: Bench
) -> None:
    bench.fail_at(2, raising(error))
    with pytest.raises(kind):
        bench.start()
    assert (bench.state()["status"], bench.state()["exit_code"]) == ("failed", code)
    bench.faults.clear()
    assert bench.resume().results["main"].training["steps"] == 4
    assert bench.steps() == [1, 2, 3, 4]


def test_a_defect_of_the_engine_is_recorded_as_well(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunesmith.stage.StageRun.execute", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        bench.start()
    assert (bench.state()["status"], bench.state()["exit_code"]) == ("failed", 1)
    assert "ZeroDivisionError" in (bench.run() / "error.txt").read_text()


def test_the_file_of_the_traceback_is_named_where_there_is_one(bench: Bench) -> None:
    bench.fail_at(2, raising(ZeroDivisionError("planted")))
    with pytest.raises(PluginError) as caught:
        bench.start()
    assert caught.value.fix is not None
    assert caught.value.fix.endswith(f"and it is in {bench.run() / 'error.txt'}.")
    assert "ZeroDivisionError" in (bench.run() / "error.txt").read_text()


def test_an_adapter_that_leaves_nothing_to_train_is_refused(bench: Bench) -> None:
    with pytest.raises(PluginError, match="role 'model': adapter 'shift' of local .* leaves nothing to train"):
        bench.start(SINGLE, "adapter.frozen=true")


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (["data.drop=1"], "1 of 8 rows (12.5%) would be lost"),
        (["data.drop=8", "data.held=0"], "none of the 8 rows can be used"),
        (["data.held=0"], "no rows are held out"),
        (["data.held=8"], "no row is left to train on"),
        (["trainer.use=pairs"], "trainer 'pairs' cannot use 'text' rows; it takes preference"),
    ],
)
def test_data_that_cannot_be_used_stops_before_a_model_is_loaded(sets: list[str], message: str, bench: Bench) -> None:
    with pytest.raises(DataError) as caught:
        bench.start(SINGLE, *sets)
    assert message in str(caught.value)
    assert bench.seen == []
    assert bench.state()["exit_code"] == 65


def test_a_place_that_cannot_be_written_is_refused_before_anything(bench: Bench) -> None:
    bench.runs.write_text("a file")
    with pytest.raises(DiskError):
        bench.start()
    assert bench.seen == []


def test_a_full_disk_for_the_log_is_no_traceback(bench: Bench, capsys: pytest.CaptureFixture[str]) -> None:
    def fill(step: int, context: Context) -> None:
        (context.stage_folder / "metrics.jsonl").unlink()
        (context.stage_folder / "metrics.jsonl").symlink_to("/dev/full")

    bench.faults["step"] = fill
    with pytest.raises(DiskError, match="No space left"):
        bench.start()
    assert bench.state()["exit_code"] == 74


def test_a_full_disk_for_the_state_keeps_the_first_error(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(self: RunFolder, status: str, **more: Any) -> None:
        if status != "running":
            raise DiskError("cannot write state.json")

    monkeypatch.setattr(RunFolder, "set_state", full)
    bench.fail_at(1, raising(DataError("the first error")))
    with pytest.raises(DataError, match="the first error"):
        bench.start()
    assert "could not be updated" in capsys.readouterr().err
    assert RunFolder(bench.run()).status != "done"


# --- observers --------------------------------------------------------------------------------
HOOKS = ("run_started", "step", "stage_finished", "run_finished", "run_failed")


def observer(told: list[str], fail: bool = False) -> SimpleNamespace:
    def make(name: str) -> Callable[[], None]:
        def hook() -> None:
            told.append(name)
            if fail:
                raise SystemExit("observer")

        return hook

    return SimpleNamespace(**{f"tunesmith_{name}": hookimpl(make(name)) for name in HOOKS})


def test_observers_are_told_and_one_that_fails_harms_nobody(bench: Bench) -> None:
    good: list[str] = []
    bad: list[str] = []
    bench.registry.add(observer(bad, fail=True), name="bad", distribution="tunesmith-bad")
    bench.registry.add(observer(good), name="good")
    bench.start()
    assert good == ["run_started", "step", "step", "step", "step", "stage_finished", "run_finished"]
    assert bad == ["run_started"]
    assert [line for line in bench.heard.lines if "observer" in line] == [
        "warning: observer tunesmith_run_started of plugin tunesmith-bad 0 failed and is off for the rest of this "
        "run: SystemExit: observer"
    ]
    assert bench.state()["status"] == "done"
    bench.fail_at(1, raising(DataError("x")))
    with pytest.raises(DataError):
        bench.start()
    assert good[7:] == ["run_started", "step", "run_failed"]


def test_an_observer_cannot_change_what_is_recorded(bench: Bench) -> None:
    def meddle(metrics: dict[str, float]) -> None:
        metrics.clear()

    bench.registry.add(SimpleNamespace(tunesmith_step=hookimpl(meddle)), name="meddler")
    bench.start()
    assert all("loss" in line for line in lines(bench.run() / "metrics.jsonl"))


# --- signals ----------------------------------------------------------------------------------
def kill(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_stops_after_the_step_and_resume_goes_on(number: int, code: int, bench: Bench) -> None:
    reference = bench.start().results["main"]
    handlers = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    bench.fail_at(2, kill(number))
    with pytest.raises(Stopped, match="stopped at step 2 of 4; everything is saved") as caught:
        bench.start()
    assert caught.value.exit_code == code
    assert f"tunesmith resume {bench.run(2)}" in str(caught.value)
    assert (bench.state(2)["status"], bench.state(2)["exit_code"]) == ("stopped", code)
    assert RunFolder(bench.run(2)).status == "stopped"
    assert not (bench.run(2) / "error.txt").exists()
    assert {each: signal.getsignal(each) for each in handlers} == handlers
    bench.faults.clear()
    resumed = bench.resume(2).results["main"]
    assert resumed.after == reference.after
    assert resumed.before == reference.before
    assert bench.steps(2) == [1, 2, 3, 4]
    assert bench.state(2)["status"] == "done"
    names = [event["event"] for event in lines(bench.run(2) / "events.jsonl")]
    assert names.index("stopped") < names.index("resumed") < names.index("done")


def test_a_second_signal_stops_at_once(bench: Bench) -> None:
    def twice() -> None:
        kill(signal.SIGINT)()
        kill(signal.SIGINT)()

    bench.fail_at(2, twice)
    with pytest.raises(Stopped, match="stopped at once"):
        bench.start()
    assert bench.state()["exit_code"] == 130
    bench.faults.clear()
    bench.resume()
    assert bench.steps() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("place", "doing"), [("loader", "load model"), ("evaluator", "train"), ("model", "evaluate before")]
)
def test_a_signal_between_the_parts_stops_there(place: str, doing: str, bench: Bench) -> None:
    def signalled() -> Any:
        kill(signal.SIGTERM)()
        fault = bench.faults.pop(place)
        try:
            return original()
        finally:
            bench.faults[place] = fault

    module = sys.modules["tunesmith_local_toy_core"]
    arguments: list[Any] = []
    name = {"loader": "load_rows", "evaluator": "distance", "model": "load_toy"}[place]
    entry = next(e for e in bench.registry.entries(place) if e.component.name != "never")
    factory = getattr(module, name)

    def original() -> Any:
        return factory(*arguments)

    def spy(*given: Any) -> Any:
        arguments[:] = given
        return factory(*given)

    object.__setattr__(entry.component, "factory", spy)
    bench.faults[place] = signalled
    with pytest.raises(Stopped, match=f"stopped in '{doing}'"):
        bench.start()
    assert (bench.state()["status"], bench.state()["exit_code"]) == ("stopped", 143)
    bench.faults.clear()
    bench.resume()
    assert bench.state()["status"] == "done"


# --- resuming ---------------------------------------------------------------------------------
@pytest.fixture
def stopped(bench: Bench) -> Bench:
    (bench.folder / "rows.txt").write_text("a b c d e f g h")
    bench.fail_at(3, raising(DataError("planted")))
    with pytest.raises(DataError):
        bench.start(SINGLE, "data.path=rows.txt")
    bench.faults.clear()
    bench.seen.clear()
    return bench


def test_the_evaluation_before_is_not_made_twice(stopped: Bench) -> None:
    stopped.resume()
    assert [value for what, value in stopped.seen if what == "evaluate"] == [0.9375]
    result = json.loads((stopped.run() / "results.json").read_text())["main"]
    assert result["before"]["measures"]["distance"]["value"] == 1.0


def test_a_done_run_is_not_resumed(stopped: Bench) -> None:
    stopped.resume()
    with pytest.raises(DataError, match="run a-001 is done") as caught:
        stopped.resume()
    assert "tunesmith evaluate" in str(caught.value)
    assert stopped.state()["status"] == "done"


def test_a_run_that_is_held_is_not_resumed(stopped: Bench) -> None:
    folder = RunFolder(stopped.run())
    folder.lock()
    with pytest.raises(LockedError):
        stopped.resume()
    folder.release()


def test_changed_data_is_refused(stopped: Bench) -> None:
    (stopped.folder / "rows.txt").write_text("a b c d e f g X")
    with pytest.raises(RecipeError, match="stage 'main' is not what it was") as caught:
        stopped.resume()
    assert caught.value.details == ("rows.txt changed",)
    (stopped.folder / "rows.txt").write_text("a b c d e f g h")
    stopped.resume()


@pytest.mark.parametrize(
    ("old", "new", "difference"),
    [
        ('use = "shift"', 'use = "shift"\nrank = 2', "roles.0.adapter.settings.rank: was 1, is 2"),
        ('use = "pull"', 'use = "pull"\nsteps = 9', "trainer.settings.steps: was 4, is 9"),
        ('use = "pull"', 'use = "pull"\nrate = 0.25', "trainer.settings.rate: was 0.5, is 0.25"),
        ("[model]", "[run]\nseed = 3\n[model]", "the seed"),
    ],
)
def test_changed_settings_are_refused_with_the_difference(old: str, new: str, difference: str, stopped: Bench) -> None:
    path = stopped.run() / "recipe.toml"
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(RecipeError) as caught:
        stopped.resume()
    assert any(difference in line for line in caught.value.details), caught.value.details
    assert stopped.state()["status"] == "failed"


def test_another_version_of_a_plugin_is_refused(stopped: Bench) -> None:
    module = sys.modules["tunesmith_local_toy_core"]
    stopped.registry = Registry()
    stopped.registry.add(module, name="toy_core", distribution="local", version="other")
    with pytest.raises(RecipeError) as caught:
        stopped.resume()
    assert any(".version: was '" in line and "is 'other'" in line for line in caught.value.details)


@pytest.mark.parametrize("by", ["recipe", "argument"])
def test_other_libraries_are_refused_or_allowed(stopped: Bench, by: str) -> None:
    manifest = RunFolder(stopped.run()).manifest
    manifest["environment"]["libraries"]["torch"] = "0.1"
    RunFolder(stopped.run()).write_manifest(manifest)
    with pytest.raises(RecipeError, match="other versions are installed") as caught:
        stopped.resume()
    assert "torch: was '0.1'" in caught.value.details[0]
    assert "--other-versions" in str(caught.value)
    path = stopped.run() / "recipe.toml"
    if by == "recipe":
        path.write_text(path.read_text() + "\n[run]\nother_versions = true\n")
    stopped.resume(other_versions=by == "argument")
    assert stopped.state()["status"] == "done"


def test_a_damaged_checkpoint_is_passed_over_and_its_steps_come_again(stopped: Bench) -> None:
    checkpoints = stopped.run() / "checkpoints"
    (checkpoints / "step-000003" / "shift.json").write_text("9")
    result = stopped.resume().results["main"]
    assert len([line for line in stopped.heard.lines if "step-000003 is damaged" in line]) == 1
    assert (checkpoints / "damaged-step-000003").is_dir()
    assert result.after["measures"]["distance"]["value"] == 0.0625
    assert stopped.steps() == [1, 2, 3, 4]


def test_what_a_kill_leaves_is_tidied_up(stopped: Bench) -> None:
    for name in ("x-1", "old-artifact-7"):
        (stopped.run() / f".staging-{name}").mkdir()
    (stopped.run() / ".staging-state.json").write_text("{")
    (stopped.run() / "checkpoints" / ".staging-step-000004-1").mkdir()
    with (stopped.run() / "metrics.jsonl").open("a") as file:
        file.write('{"stage": "main", "st')
    stopped.resume()
    assert [path for path in stopped.run().rglob("*") if path.name.startswith(".staging-")] == []
    assert stopped.steps() == [1, 2, 3, 4]


def test_a_kill_between_artifact_and_export_is_not_done(bench: Bench) -> None:
    bench.faults["exporter"] = raising(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        bench.start(SINGLE, *EVERYTHING)
    assert damage(bench.run() / "artifact") == []
    bench.faults.clear()
    bench.resume()
    assert (bench.folder / "out.json").read_text() == "0.9375"


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"recipe_folder": "x"}', '{"recipe_folder": 3}'])
def test_a_damaged_manifest_is_named(content: str, stopped: Bench) -> None:
    (stopped.run() / "manifest.json").write_text(content)
    with pytest.raises(DataError, match="the manifest of run a-001 is damaged"):
        stopped.resume()


def test_other_folders_cannot_be_resumed(bench: Bench) -> None:
    with pytest.raises(DataError, match="is not a run folder"):
        resume(bench.folder, bench.registry, bench.heard)


# --- stages -----------------------------------------------------------------------------------
def test_a_stage_goes_on_with_the_adapter_of_an_earlier_one(bench: Bench) -> None:
    run = bench.start(PIPELINE)
    assert list(run.results) == ["first", "second"]
    assert run.results["first"].after == run.results["second"].before
    assert run.results["second"].after["measures"]["distance"]["value"] == 0.0625**2
    assert (bench.steps(stage="first"), bench.steps(stage="second")) == ([1, 2, 3, 4], [1, 2, 3, 4])
    context = Context(folder=bench.folder)
    assert load_artifact(run.results["second"].artifact, bench.registry, context).model.value == 1 - 0.0625**2


def test_a_stage_starts_from_the_merged_model_of_an_earlier_one(bench: Bench) -> None:
    run = bench.start(PIPELINE, "stages.second.adapter.use=shift")
    artifact = run.results["second"].artifact
    assert run.results["second"].before["measures"] == run.results["first"].after["measures"]
    assert damage(artifact) == []
    assert damage(artifact / "parent") == []
    shutil.rmtree(bench.run() / "stages" / "first")
    adapted = load_artifact(artifact, bench.registry, Context(folder=bench.folder))
    assert adapted.model.base.value == 0.9375
    assert adapted.model.value == 1 - 0.0625**2


def test_a_merge_that_fails_is_named(bench: Bench) -> None:
    bench.faults["merge"] = raising(ValueError("no"))
    with pytest.raises(PluginError, match="adapter 'shift' of local .* failed: ValueError: no"):
        bench.start(PIPELINE, "stages.second.adapter.use=shift")
    assert bench.state()["stage"] == "second"


def test_roles_share_a_model_with_its_adapter_off(bench: Bench) -> None:
    text = PIPELINE.replace("model.from", "models.policy.from").replace(
        'trainer.use = "pull"\nevaluate = [{use = "distance"}]\n[stages.second]',
        'trainer.use = "pull"\n[stages.second]\nmodels.reward.source = "toy:3"',
    )
    head, tail = text.rsplit('trainer.use = "pull"', 1)
    bench.start(f'{head}trainer.use = "duo"{tail}')
    trained = [value for what, value in bench.seen if what == "train"]
    assert trained[1] == {"policy": "Shifted", "reference": "EarlierView", "reward": "Adapted"}
    assert ("load", ("toy:3", "scalar", {})) in bench.seen


def test_an_evaluator_is_handed_the_models_that_it_names(bench: Bench) -> None:
    models = "{reference = {source = 'toy:2'}, judge = {source = 'toy:3'}}"
    run = bench.start(PIPELINE, f"stages.second.evaluate=[{{use = 'against', models = {models}}}]")
    before, after = [found for what, found in bench.seen if what == "against"]
    assert before == after == {"reference": 2, "judge": 3}
    measured = [getattr(run.results["second"], side)["measures"]["ahead"]["value"] for side in ("before", "after")]
    assert measured == [2 - 0.9375, 2 - (1 - 0.0625**2)]


def test_unchanged_stages_are_taken_from_an_earlier_run(bench: Bench) -> None:
    first = bench.start(PIPELINE)
    bench.seen.clear()
    second = bench.start(PIPELINE, "stages.second.trainer.steps=2")
    assert len([what for what, _ in bench.seen if what == "train"]) == 1
    kept = second.results["first"]
    assert kept.reused == str(first.folder / "stages" / "first")
    assert kept.artifact == bench.run(2) / "stages" / "first" / "artifact"
    assert kept.after == first.results["first"].after, "measures are kept with the artifact"
    assert damage(kept.artifact) == []
    assert any("first: unchanged, taken from" in line for line in bench.heard.lines)
    ledgers = [(run.folder / "stages" / "first" / "ledger.jsonl").read_text() for run in (first, second)]
    assert ledgers[0] == ledgers[1]
    results = json.loads((bench.run(2) / "results.json").read_text())
    assert results["first"]["after"] == first.results["first"].describe()["after"]


def test_fresh_makes_every_stage_anew(bench: Bench) -> None:
    bench.start(PIPELINE)
    bench.seen.clear()
    second = bench.start(PIPELINE, fresh=True)
    assert len([what for what, _ in bench.seen if what == "train"]) == 2
    assert second.results["first"].reused is None


def test_a_damaged_stage_is_not_taken(bench: Bench) -> None:
    first = bench.start(PIPELINE)
    (first.results["first"].artifact / "shift.json").write_text("7")
    (first.folder / "stages" / "second" / "result.json").unlink()
    bench.seen.clear()
    bench.start(PIPELINE)
    assert len([what for what, _ in bench.seen if what == "train"]) == 2


def test_resume_keeps_the_stages_that_were_finished(bench: Bench) -> None:
    reference = bench.start(PIPELINE)
    state = {"stage": 0}

    def in_second_stage(step: int, context: Context) -> None:
        state["stage"] += step == 1
        if state["stage"] == 2 and step == 2:
            raise DataError("planted")

    bench.faults["step"] = in_second_stage
    with pytest.raises(DataError):
        bench.start(PIPELINE, fresh=True)
    assert bench.state(2)["stage"] == "second"
    bench.faults.clear()
    bench.seen.clear()
    resumed = bench.resume(2)
    assert len([what for what, _ in bench.seen if what == "train"]) == 1
    assert resumed.results["first"].after == reference.results["first"].after
    assert resumed.results["first"].reused is None
    assert resumed.results["second"].after == reference.results["second"].after
    assert bench.steps(2, "second") == [1, 2, 3, 4]


def test_a_copy_that_was_cut_short_is_made_again(bench: Bench) -> None:
    bench.start(PIPELINE)
    bench.fail_at(1, raising(DataError("planted")))
    with pytest.raises(DataError):
        bench.start(PIPELINE, "stages.second.trainer.steps=2")
    kept = bench.run(2) / "stages" / "first" / "artifact"
    (kept / "digests.json").unlink()
    bench.faults.clear()
    assert damage(bench.resume(2).results["first"].artifact) == []
