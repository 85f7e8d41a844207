"""Whole runs that measure between steps: nothing of the training changes, and the best step is what is kept."""

from __future__ import annotations

import hashlib
import json
import shutil

import pytest
from safetensors.torch import load_file

from tunesmith import RecipeError, Stopped, hookimpl
from tunesmith.store import checkpoints

BETWEEN = ("trainer.eval_steps=1", "trainer.save_steps=100", "trainer.save_total_limit=1")
#: The perplexity falls as the model learns, so that the first step is the best and patience ends soon.
UPSIDE_DOWN = (*BETWEEN, "trainer.greater_is_better=true", "trainer.early_stopping_patience=2")


def weights(run):
    return hashlib.sha256((run / "artifact" / "adapter_model.safetensors").read_bytes()).hexdigest()


def lines(run, name):
    return [json.loads(line) for line in (run / name).read_text().splitlines()]


class Watching:
    """An observer that notes what is measured, and may stop the run by it."""

    def __init__(self, stop_at=None):
        self.seen = []
        self.stop_at = stop_at

    @hookimpl
    def tunesmith_evaluated(self, stage, step, measures):
        self.seen.append((stage, step, measures["perplexity"].value))
        if step == self.stop_at:
            raise Stopped(15, "pruned", fix="nothing")


def test_measuring_between_steps_changes_no_bit(house):
    watching = Watching()
    plain, measured = house.run(), house.run("trainer.eval_steps=4", plugins=(watching,))
    assert weights(plain.folder) == weights(measured.folder)
    assert [(stage, step) for stage, step, _ in watching.seen] == [("main", 4), ("main", 6)]
    kept = lines(measured.folder, "evaluations.jsonl")
    assert [(line["step"], line["measures"]["perplexity"]["value"]) for line in kept] == [s[1:] for s in watching.seen]
    result = measured.results["main"]
    assert watching.seen[-1][2] == result.after["measures"]["perplexity"]["value"]
    assert result.facts["kept_step"] == 6
    assert "evaluate in between" in result.seconds


def test_the_artifact_is_the_best_step_and_training_ends_early(house):
    run = house.run(*UPSIDE_DOWN, "trainer.load_best_model_at_end=true")
    result = run.results["main"]
    assert [path.name for path in checkpoints(run.folder / "checkpoints")] == ["step-000001", "step-000003"]
    assert (result.training["steps"], result.training["total_steps"]) == (3, 6)
    assert result.facts["best_step"] == result.facts["kept_step"] == 1
    assert "at step 3" in result.facts["ended_early"]
    kept = load_file(run.folder / "artifact" / "adapter_model.safetensors")
    best = load_file(run.folder / "checkpoints" / "step-000001" / "model.safetensors")
    assert {name: tensor.tolist() for name, tensor in kept.items()} == {
        name.replace(".default.", "."): tensor.tolist() for name, tensor in best.items()
    }
    first = lines(run.folder, "evaluations.jsonl")[0]["measures"]["perplexity"]["value"]
    assert result.after["measures"]["perplexity"]["value"] == first
    assert "ended early" in (run.folder / "report.html").read_text()


@pytest.mark.parametrize("step", [1, 2])
def test_a_stopped_run_finds_the_same_best(house, step):
    sets = (*UPSIDE_DOWN, "trainer.load_best_model_at_end=true")
    whole, part = house.run(*sets), house.stopped(step, *sets)
    again = house.resume(part).results["main"]
    assert weights(part) == weights(whole.folder)
    assert lines(part, "evaluations.jsonl") == lines(whole.folder, "evaluations.jsonl")
    assert again.facts["kept_step"] == 1
    assert again.training["steps"] == 3


def test_a_run_killed_after_it_ended_early_trains_no_step_more(house):
    sets = (*UPSIDE_DOWN, "trainer.load_best_model_at_end=true")
    run = house.run(*sets)
    expected = weights(run.folder)
    shutil.rmtree(run.folder / "artifact")
    (run.folder / "result.json").unlink()
    (run.folder / "state.json").write_text('{"status": "running"}')
    resumed = house.resume(run.folder).results["main"]
    assert weights(run.folder) == expected
    assert resumed.training["steps"] == 3
    assert [line["step"] for line in lines(run.folder, "metrics.jsonl")] == [1, 2, 3]


def test_an_observer_can_stop_a_run_by_what_was_measured(house):
    with pytest.raises(Stopped):
        house.run(*BETWEEN, plugins=(Watching(stop_at=2),))
    stopped = house.newest()
    assert checkpoints(stopped / "checkpoints")[-1].name == "step-000002"
    assert json.loads((stopped / "state.json").read_text())["status"] == "stopped"


def test_transformers_own_arguments_for_it_are_refused(house):
    with pytest.raises(RecipeError, match="eval_strategy in .* has no effect here") as error:
        house.run("trainer.arguments.eval_strategy=steps")
    assert error.value.fix == "Set eval_steps in [trainer]."
