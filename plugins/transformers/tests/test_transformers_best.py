"""Which step is the best, when training ends early, and what is refused: without a model."""

from __future__ import annotations

import json
import random

import pytest
import torch

from tunesmith import Context, Measure, RecipeError, Stopped
from tunesmith.held_out import HeldOut, random_kept
from tunesmith.store import commit_folder
from tunesmith_transformers.training import best_checkpoint as best
from tunesmith_transformers.training.best_checkpoint import Best
from tunesmith_transformers.training.settings import EvaluationSettings


class Script:
    """Held-out rows whose measures are written down beforehand."""

    def __init__(self, *values, better="lower", name="loss"):
        self.values = list(values)
        self.better = better
        self.name = name
        self.kept = []

    def held_out(self):
        before = {self.name: Measure(value=9.0, better=self.better), "other": Measure(value=1.0, better="higher")}

        def measured(adapted, names):
            value = self.values.pop(0)
            if isinstance(value, BaseException):
                raise value
            return {self.name: Measure(value=value, better=self.better), "other": before["other"]}

        class Fixed(HeldOut):
            measure = staticmethod(measured)

        keep = lambda step, measures: self.kept.append((step, measures[self.name].value))  # noqa: E731
        return Fixed(before=before, run=lambda handle, names: {}, keep=keep)


def followed(script, steps=(1, 2, 3, 4, 5, 6), **settings):
    """What became of a training whose steps are measured one by one, until it ends."""
    found = Best(EvaluationSettings(eval_steps=1, **settings), Context(held_out=script.held_out()))
    for step in steps:
        found.measure(step, None)
        if found.ended:
            break
    return found


def test_the_lowest_loss_is_the_best_and_patience_ends_the_training():
    script = Script(5, 3, 4, 6, 1)
    found = followed(script, early_stopping_patience=2)
    assert (found.step, found.value, found.ended) == (2, 3, 4)
    assert script.kept == [(1, 5), (2, 3), (3, 4), (4, 6)]


def test_an_improvement_resets_patience():
    assert followed(Script(5, 6, 4, 6, 3, 2), early_stopping_patience=2).ended is None


def test_the_direction_is_the_measures_own_unless_it_is_told():
    assert followed(Script(1, 3, 2, 0, 0, 0, better="higher")).step == 2
    assert followed(Script(1, 3, 2, 0, 0, 0, better="lower")).step == 4
    assert followed(Script(1, 3, 2, 0, 0, 0, better="lower"), greater_is_better=True).step == 2


def test_patience_asks_for_more_than_the_threshold_and_the_best_does_not():
    found = followed(Script(5, 4.9, 4.8), early_stopping_patience=2, early_stopping_threshold=0.5)
    assert (found.step, found.ended) == (3, 3)


def test_what_is_not_finite_is_no_improvement():
    found = followed(Script(float("nan"), 2, float("inf"), float("nan")), early_stopping_patience=2)
    assert (found.step, found.ended) == (2, 4)


def test_every_so_many_steps_are_measured_and_the_last_one():
    found = Best(EvaluationSettings(eval_steps=4), Context(held_out=Script().held_out()))
    assert [step for step in range(1, 11) if found.due(step, 10)] == [4, 8, 10]
    assert not Best(EvaluationSettings(), Context()).due(4, 4)


def test_a_signal_leaves_the_step_unmeasured():
    context = Context(held_out=Script(5, Stopped(15, "stopped", fix="resume")).held_out())
    found = Best(EvaluationSettings(eval_steps=1), context)
    assert found.measure(1, None)
    assert not found.measure(2, None)
    assert context.stop.signal_number == 15
    assert found.due(2, 6)
    assert found.curves["loss"] == [[1, 5]]


def test_state_goes_through_json():
    found = followed(Script(5, 3, 4), steps=(1, 2, 3))
    again = Best(found.settings, found.context)
    again.load_state(json.loads(json.dumps(found.state())))
    assert vars(again) == vars(found)
    fresh = Best(found.settings, found.context)
    again.load_state(json.loads(json.dumps(fresh.state())))
    assert again.step is None
    assert again.value != again.value


def test_the_best_checkpoint_is_pinned_and_put_back(tmp_path):
    found = followed(Script(5, 3, 4), steps=(1, 2, 3), load_best_model_at_end=True)
    assert found.pinned(tmp_path) == [tmp_path / "step-000002"]
    commit_folder(tmp_path / "step-000002", lambda folder: (folder / "x").write_text("x") and None)
    assert found.chosen(tmp_path, 3) == tmp_path / "step-000002"
    facts = found.context.facts
    assert facts["kept_step"] == facts["best_step"] == 2
    assert facts["measured_between"]["loss"] == [[1, 5], [2, 3], [3, 4]]


def test_the_last_step_is_kept_where_the_best_is_not_asked_for(tmp_path):
    found = followed(Script(5, 3, 4), steps=(1, 2, 3))
    assert found.chosen(tmp_path, 3) is None
    assert (found.context.facts["best_step"], found.context.facts["kept_step"]) == (2, 3)


def test_a_damaged_best_checkpoint_is_said(tmp_path):
    warned = []

    class Talk:
        def say(self, message): ...
        def warn(self, message):
            warned.append(message)

    found = followed(Script(5, 3, 4), steps=(1, 2, 3), load_best_model_at_end=True)
    found.context = found.context.with_(reporter=Talk())
    assert found.chosen(tmp_path, 3) is None
    assert "step-000002, is damaged" in warned[0]
    assert found.context.facts["kept_step"] == 3


@pytest.mark.parametrize(
    ("settings", "evaluators", "said", "fix"),
    [
        ({"early_stopping_patience": 2}, ["perplexity"], "early_stopping_patience is set", "Set eval_steps"),
        ({"load_best_model_at_end": True}, ["perplexity"], "load_best_model_at_end is set", "Set eval_steps"),
        ({"eval_use": ("perplexity",)}, ["perplexity"], "eval_use is set", "Set eval_steps"),
        ({"eval_steps": 5}, [], "the recipe has no evaluator", "[[evaluate]]"),
        ({"eval_steps": 5, "eval_use": ("x",)}, ["perplexity"], "eval_use names 'x'", "There are: perplexity"),
    ],
)
def test_what_cannot_be_measured_is_refused_by_the_plan(settings, evaluators, said, fix):
    with pytest.raises(RecipeError) as error:
        best.check(EvaluationSettings(**settings), evaluators)
    assert said in str(error.value)
    assert fix in str(error.value)


def test_a_measure_that_no_evaluator_gives_is_refused_before_the_first_step():
    context = Context(held_out=Script().held_out())
    with pytest.raises(RecipeError, match="Did you mean 'loss'"):
        Best(EvaluationSettings(eval_steps=1, metric_for_best_model="los"), context)


GIVEN = {"perplexity": ("perplexity",), "generate": ("exact_match", "bleu"), "few-shot": ("exact_match_*_shot",)}


@pytest.mark.parametrize(
    ("settings", "said", "fix"),
    [
        ({"metric_for_best_model": "perplexty"}, "no evaluator gives a measure of that name", "perplexity"),
        ({"metric_for_best_model": "bleu", "eval_use": ("perplexity",)}, "leaves out 'generate'", "Add 'generate'"),
        ({"eval_use": ("generate",)}, "leaves out 'perplexity'", "metric_for_best_model"),
    ],
)
def test_a_measure_that_cannot_decide_is_refused_by_the_plan(settings, said, fix):
    settings = EvaluationSettings(eval_steps=1, **settings)
    with pytest.raises(RecipeError) as error:
        best.check(settings, tuple(GIVEN), measures=GIVEN)
    assert said in error.value.what
    assert fix in error.value.fix
    assert error.value.setting
    best.check(settings, tuple(GIVEN), measures={**GIVEN, "generate": ()})  # one that does not say what it gives


@pytest.mark.parametrize(
    "settings",
    [
        {"metric_for_best_model": "perplexity/sums"},
        {"metric_for_best_model": "generate/exact_match", "eval_use": ("generate",)},
        {"metric_for_best_model": "exact_match_4_shot"},
        {"eval_use": ("perplexity", "generate")},
    ],
)
def test_a_measure_that_can_decide_is_planned(settings):
    best.check(EvaluationSettings(eval_steps=1, **settings), tuple(GIVEN), measures=GIVEN)


def test_a_trainers_own_measure_decides_without_an_evaluator():
    settings = EvaluationSettings(eval_steps=1, metric_for_best_model="reward", eval_use=("generate",))
    best.check(settings, tuple(GIVEN), own=("reward",), measures=GIVEN)


def test_random_generators_are_put_back():
    def draw():
        return random.random(), torch.rand(1).item()

    torch.manual_seed(1)
    random.seed(1)
    expected = draw()
    torch.manual_seed(1)
    random.seed(1)
    with random_kept():
        torch.manual_seed(99)
        draw()
    assert draw() == expected
