"""What the evaluator measures: accuracy, loss and calibration on pairs whose rewards are known."""

from __future__ import annotations

import math

import pytest

from tunesmith import Context, Dataset, RecipeError, Records
from tunesmith.calibration import Bin, expected_error
from tunesmith.report_stage import stage_section
from tunesmith_reward import accuracy
from tunesmith_reward.accuracy import evaluate
from tunesmith_reward.calibration import reliability
from tunesmith_reward.settings import RewardAccuracySettings
from tunesmith_transformers.loading.heads import with_head


def logit(probability: float) -> float:
    return math.log(probability / (1 - probability))


def test_pairs_are_binned_by_confidence():
    ahead = [logit(0.9)] * 9 + [-logit(0.9)] + [logit(0.75)] * 3 + [-logit(0.75)] + [0.0]
    bins = reliability(ahead, 3)
    expected = [Bin(1, 0.5, 0.5), Bin(4, 0.75, 0.75), Bin(10, 0.9, 0.9)]
    assert [item.count for item in bins] == [item.count for item in expected]
    for found, wanted in zip(bins, expected, strict=True):
        assert (found.confidence, found.accuracy) == pytest.approx((wanted.confidence, wanted.accuracy))
    assert expected_error(bins) == pytest.approx(0)


def test_the_error_of_a_model_that_is_too_sure():
    bins = reliability([50.0, 50.0, -50.0, -50.0], 10)
    assert bins == [Bin(4, pytest.approx(1.0), 0.5)]
    assert expected_error(bins) == pytest.approx(0.5)


def test_measures_of_known_rewards(tiny_handle, monkeypatch):
    ahead = [logit(0.8), logit(0.7), -logit(0.6), 0.0]
    monkeypatch.setattr(accuracy, "rewards_ahead", lambda *arguments: ahead)
    rows = [{"prompt": f"{i}", "chosen": "a", "rejected": "b"} for i in range(4)]
    data = Dataset(type="preference", train=Records([], []), validation=Records(rows, list("abcd")))
    found = evaluate(with_head(tiny_handle, "scalar", 0), data, RewardAccuracySettings(), Context())
    measures = found.measures
    assert measures["pair_accuracy"].value == pytest.approx(2.5 / 4)
    assert measures["pair_accuracy"].per_row == (1, 1, 0, 0.5)
    assert measures["pair_loss"].value == pytest.approx(-sum(map(math.log, (0.8, 0.7, 0.4, 0.5))) / 4)
    assert measures["calibration_error"].value == pytest.approx((0.2 + 0.3 + 0.6 + 0) / 4)
    (curve,) = found.curves
    assert [x for x, _ in curve.points] == pytest.approx([0.5, 0.6, 0.7, 0.8])
    assert [y for _, y in curve.points] == [0.5, 0.0, 1.0, 1.0]


def test_the_pairs_of_one_prompt_are_drawn_together(tiny_handle, monkeypatch):
    ahead = [1.0] * 5 + [-1.0] * 5
    monkeypatch.setattr(accuracy, "rewards_ahead", lambda *arguments: ahead)
    handle = with_head(tiny_handle, "scalar", 0)

    def interval(prompts):
        rows = [{"prompt": prompt, "chosen": str(i), "rejected": "b"} for i, prompt in enumerate(prompts)]
        data = Dataset(type="preference", train=Records([], []), validation=Records(rows, list("abcdefghij")))
        found = evaluate(handle, data, RewardAccuracySettings(), Context()).measures["pair_accuracy"]
        return found.value, found.low, found.high

    value, low, high = interval("abcdefghij")
    assert 0 < low < value == 0.5 < high < 1
    assert interval("aaaaabbbbb") == (0.5, 0.0, 1.0)  # two prompts say as little as two pairs


def test_the_report_draws_the_calibration(tmp_path):
    curve = {
        "name": "calibration",
        "x": "confidence",
        "points": [[0.5, 0.5], [0.9, 0.8]],
        "ideal": [[0.5, 0.5], [1, 1]],
    }
    page = str(stage_section(tmp_path, {}, {"after": {"measures": {}, "curves": [curve]}}, [], None))
    assert "calibration, after: 0.5 at confidence 0.5, 0.8 at confidence 0.9" in page
    assert page.count("<polyline") == 2
    assert "thin: ideal" in page


def test_a_policy_is_measured_by_the_other_evaluator(tiny_handle):
    data = Dataset(type="preference", train=Records([], []))
    with pytest.raises(RecipeError, match="this one has a 'causal-lm' head") as error:
        evaluate(tiny_handle, data, RewardAccuracySettings(), Context())
    assert "preference-accuracy" in str(error.value)
