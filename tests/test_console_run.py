"""Commands that plan, run, resume and list runs, on toy components."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Output = tuple[int, str, str]


def as_json(output: Output) -> Any:
    assert output[0] == 0, output[2]
    return json.loads(output[1])


# --- plan -------------------------------------------------------------------------------------
def test_plan_prints_components_and_changed_settings(call: Callable[..., Output]) -> None:
    code, out, err = call("plan", "recipe.toml", "--set", "trainer.steps=9")
    assert code == 0
    assert "pairs" in out
    assert "steps=9" in out
    assert "rate" not in out
    assert "next: tunesmith run recipe.toml --set trainer.steps=9" in err
    assert "rate=0.5" in call("plan", "recipe.toml", "--all")[1]


def test_plan_json_holds_every_setting(call: Callable[..., Output]) -> None:
    plan = as_json(call("plan", "recipe.toml", "--json"))
    assert plan["stages"][0]["trainer"]["settings"] == {"steps": 4, "rate": 0.5, "fault": "none"}


def test_plan_and_run_say_what_the_components_foresee(call: Callable[..., Output]) -> None:
    words = ("recipe.toml", "--set", "trainer.use=blind", "--set", "run.device=cpu")
    note = "trainer blind: trains blindly on cpu"
    assert note in call("plan", *words)[1].splitlines()
    assert as_json(call("plan", *words, "--json"))["stages"][0]["notes"] == [
        {"kind": "trainer", "name": "blind", "note": "trains blindly on cpu"}
    ]
    assert note in call("run", *words)[2].splitlines()


def test_plan_leaves_nothing_behind(call: Callable[..., Output], tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    call("plan", "recipe.toml")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("plan", "nowhere.toml"), 78, "tunesmith init"),
        (("plan", "recipe.toml", "--set", "trainer.stesp=3"), 78, "Did you mean 'steps'?"),
        (("plan", "recipe.toml", "--set", 'trainer.steps="many"'), 78, "trainer.steps"),
        (("plan", "recipe.toml", "--set", "trainer.steps"), 2, "KEY=VALUE"),
        (("plan", "recipe.toml", "--set", "adapter.use=moev"), 69, "Did you mean 'move'?"),
        (("plan", "recipe.toml", "--set", "adapter.use=adalora"), 69, "pip install tunesmith-adalora"),
        (("plan", "recipe.toml", "--set", "adapter.use=distant"), 69, "no_such_package"),
        (("run", "recipe.toml", "--set", "data.path=gone.txt"), 65, "gone.txt"),
        (("rnu",), 2, "Did you mean 'run'?"),
        (("data", "chekc"), 2, "Did you mean 'data check'?"),
        (("plan",), 2, "RECIPE"),
        (("plan", "recipe.toml", "--jsno"), 2, "--json"),
        (("--no-plugin",), 2, "--no-plugin"),
        (("resume", "nowhere"), 65, "tunesmith runs"),
        (("runs", "nowhere"), 65, "tunesmith run RECIPE"),
    ],
)
def test_mistakes_end_in_a_message_and_a_code(
    call: Callable[..., Output], words: tuple[str, ...], code: int, said: str
) -> None:
    got, out, err = call(*words)
    assert got == code
    assert said in err
    assert out == ""
    assert "Traceback" not in err


# --- run --------------------------------------------------------------------------------------
def test_run_prints_measures_samples_and_what_comes_next(call: Callable[..., Output]) -> None:
    code, out, err = call("run", "recipe.toml")
    assert code == 0, err
    for shown in ("distance", "0.0625", "-94% better", "[0.0525, 0.0725]"):
        assert shown in out
    for label in ("source", "base", "tuned", "reference", "seconds", "rows"):
        assert f"\n{label} " in out
    assert "question 7 0.94" in out
    assert "8 read · 6 trained · 2 held out" in out
    assert "next: tunesmith chat runs/recipe-001" in err
    assert "train 4/4 · loss 0.0625" in err


def test_run_json_is_only_data(call: Callable[..., Output]) -> None:
    found = as_json(call("run", "recipe.toml", "--json"))
    assert found["run"] == "runs/recipe-001"
    assert found["stages"]["main"]["after"]["measures"]["distance"]["value"] == pytest.approx(0.0625)


def test_a_preset_fills_the_recipe(call: Callable[..., Output], tmp_path: Path) -> None:
    head = Path("recipe.toml").read_text().split("[adapter]")[0]
    (tmp_path / "short.toml").write_text(f'preset = "quick"\n{head}')
    assert call("run", "short.toml")[0] == 0
    assert as_json(call("runs", "--json"))[0]["step"] == 3


def test_pipelines_show_each_stage_and_what_was_reused(call: Callable[..., Output], tmp_path: Path) -> None:
    plugins, _, rest = Path("recipe.toml").read_text().partition("\n")
    first = (
        rest.replace("[[", "[[stages.one.").replace("\n[", "\n[stages.one.").replace("[model]", "[stages.one.model]")
    )
    first = first.replace("[stages.one.[stages.one.", "[[stages.one.").replace(
        "[stages.one.stages.one.", "[stages.one."
    )
    second = '[stages.two]\nmodel.from = "one"\ntrainer.use = "pull"\ndata = {use = "pairs", path = "pairs.txt"}\n'
    (tmp_path / "two.toml").write_text(f"{plugins}\n{first}{second}evaluate = [{{use = 'distance'}}]\n")
    code, out, err = call("run", "two.toml")
    assert code == 0, err
    assert "stage one" in out
    assert "stage two" in out
    assert "unchanged" in call("run", "two.toml")[1]
    assert "unchanged" not in call("run", "two.toml", "--fresh")[1]
    plan = call("plan", "two.toml")[1]
    assert "stage one" in plan
    assert "goes on with its adapter" in plan
    code, _, err = call("evaluate", "runs/two-001", "--stage", "tow")
    assert (code, "Did you mean 'two'?" in err) == (2, True)


def test_a_defect_of_a_plugin_is_named(call: Callable[..., Output]) -> None:
    code, _, err = call("run", "recipe.toml", "--set", "trainer.fault=raise")
    assert code == 69
    assert "trainer 'pull' of local" in err
    assert "ZeroDivisionError: planted" in err
    assert "Traceback" not in err
    assert "Traceback" in call("--debug", "run", "recipe.toml", "--set", "trainer.fault=raise")[2]


def test_an_unforeseen_error_is_one_line(call: Callable[..., Output], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise KeyError("surprise")

    monkeypatch.setattr("tunesmith.run.start", broken)
    code, _, err = call("run", "recipe.toml")
    assert code == 1
    last = err.strip().splitlines()[-1]
    assert last.startswith("defect: KeyError: 'surprise'")
    assert "--debug" in last
    assert "Traceback" in call("run", "recipe.toml", "--debug")[2]


def test_an_interrupt_outside_a_run_exits_130(call: Callable[..., Output], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tunesmith.console.plan.plan_of", interrupted)
    assert call("plan", "recipe.toml")[0] == 130


# --- stop, resume, runs -----------------------------------------------------------------------
def test_a_signal_stops_and_resume_goes_on(call: Callable[..., Output]) -> None:
    code, _, err = call("run", "recipe.toml", "--set", "trainer.fault=signal")
    assert code == 128 + signal.SIGTERM
    assert "stopped at step 2 of 4" in err
    assert "tunesmith resume runs/recipe-001" in err
    listed = as_json(call("runs", "--json"))[0]
    assert (listed["status"], listed["step"], listed["checkpoint"]) == ("stopped", 2, 2)
    assert listed["measure"] == {"name": "distance", "before": 1.0, "after": None, "better": "lower"}
    manifest = Path("runs/recipe-001/manifest.json")
    described = json.loads(manifest.read_text())
    described["environment"]["libraries"]["torch"] = "0.1"
    manifest.write_text(json.dumps(described))
    code, _, err = call("resume", "runs/recipe-001")
    assert code == 78
    assert "--other-versions" in err
    code, out, err = call("resume", "runs/recipe-001", "--other-versions")
    assert code == 0, err
    assert "0.0625" in out
    assert call("resume", "runs/recipe-001")[0] == 65
    assert as_json(call("runs", "--json"))[0]["measure"]["after"] == pytest.approx(0.0625)


def test_runs_names_an_interrupted_run_and_how_to_go_on(call: Callable[..., Output], tmp_path: Path) -> None:
    call("run", "recipe.toml")
    call("run", "recipe.toml", "--set", "trainer.fault=signal")
    state = tmp_path / "runs" / "recipe-002" / "state.json"
    state.write_text('{"status": "running"}')  # as a kill leaves it
    (tmp_path / "runs" / "recipe-002" / "metrics.jsonl").open("a").write('{"stage": "ma')
    done, interrupted = as_json(call("runs", "--json"))
    assert done["status"] == "done"
    assert (done["step"], done["total_steps"]) == (4, 4)
    assert (interrupted["status"], interrupted["step"]) == ("interrupted", 2)
    assert interrupted["next"] == "tunesmith resume runs/recipe-002"
    code, out, err = call("runs")
    assert code == 0
    assert "interrupted" in out
    assert "1 → 0.0625" in out
    assert "next: tunesmith resume runs/recipe-002" in err


def test_runs_marks_a_damaged_folder(call: Callable[..., Output], tmp_path: Path) -> None:
    call("run", "recipe.toml")
    (tmp_path / "runs" / "recipe-001" / "manifest.json").write_bytes(b"\xff{")
    listed = as_json(call("runs", "--json"))
    assert [run["status"] for run in listed] == ["damaged"]
    assert "doctor" in listed[0]["next"]


def test_an_empty_folder_of_runs_is_no_error(call: Callable[..., Output], tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    assert as_json(call("runs", "--json")) == []
    assert "no runs" in call("runs")[2]
