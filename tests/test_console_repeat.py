"""`tunesmith run --repeat`: the same recipe several times, on the same rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tunesmith.console.repeat import spread

Output = tuple[int, str, str]


def test_every_repetition_is_a_run_on_the_same_rows(call: Callable[..., Output]) -> None:
    code, out, err = call("run", "recipe.toml", "--repeat", "3", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert len(found["runs"]) == 3
    results = [json.loads(Path(run, "results.json").read_text())["main"] for run in found["runs"]]
    assert len({result["held_out"] for result in results}) == 1
    cards = [json.loads(Path(run, "manifest.json").read_text())["plan"] for run in found["runs"]]
    assert [card["run"]["repetition"] for card in cards] == [0, 1, 2]
    assert len({card["stages"][0]["fingerprint"] for card in cards}) == 3
    after = found["measures"]["distance"]["after"]
    assert after["mean"] == pytest.approx(sum(after["values"]) / 3)
    code, out, err = call("run", "recipe.toml", "--repeat", "2")
    assert "mean ± standard deviation over 2 repetitions" in out
    assert "next: tunesmith chat" in err


def test_mean_and_spread() -> None:
    results = [
        {"before": {"measures": {"a": {"value": 1.0}}}, "after": {"measures": {"a": {"value": value}}}}
        for value in (1.0, 2.0, 6.0)
    ]
    found = spread(results)["a"]
    assert (found["before"]["mean"], found["before"]["sd"]) == (1.0, 0.0)
    assert (found["after"]["mean"], found["after"]["sd"]) == (3.0, pytest.approx(7**0.5))
    assert spread(results[:1])["a"]["after"]["sd"] is None
