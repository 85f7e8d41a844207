"""`tunesmith compare RUN RUN`: finished runs beside each other on the same rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Output = tuple[int, str, str]


@pytest.fixture
def two(call: Callable[..., Output]) -> list[str]:
    """A short run and a longer one, of the same rows."""
    for steps in ("2", "6"):
        code, _, err = call("run", "recipe.toml", "--set", f"trainer.steps={steps}")
        assert code == 0, err
    return ["runs/recipe-001", "runs/recipe-002"]


def compared(call: Callable[..., Output], *words: str) -> Any:
    code, out, err = call("compare", *words, "--json")
    assert code == 0, err
    return json.loads(out)


def test_runs_stand_beside_the_base_on_the_same_rows(call: Callable[..., Output], two: list[str]) -> None:
    found = compared(call, *two)
    assert [entry["name"] for entry in found["entries"]] == ["base", "recipe-001", "recipe-002"]
    assert not any(entry["again"] for entry in found["entries"])
    base, short, long = (entry["measures"]["distance"]["value"] for entry in found["entries"])
    assert base > short > long
    assert found["against"] == "base"
    moved = {name: one[0] for name, one in found["moved"].items()}
    assert (moved["recipe-002"]["before"], moved["recipe-002"]["after"]) == (base, long)
    assert found["entries"][2]["cost"]["steps"] == 6


def test_any_run_may_be_what_the_others_are_held_against(call: Callable[..., Output], two: list[str]) -> None:
    found = compared(call, *two, "--against", "recipe-001")
    assert (found["against"], list(found["moved"])) == ("recipe-001", ["base", "recipe-002"])
    code, _, err = call("compare", *two, "--against", "recipe-003")
    assert code == 2
    assert "recipe-00" in err


def test_the_table_says_what_may_be_said(call: Callable[..., Output], two: list[str]) -> None:
    code, out, err = call("compare", *two)
    assert code == 0, err
    assert "recipe-002 against base" in out
    assert "untested: distance" in out
    assert "steps" in out
    assert "next: tunesmith chat" in err


def test_a_run_of_other_rows_is_measured_again_on_those_of_the_first(
    call: Callable[..., Output], two: list[str]
) -> None:
    Path("pairs.txt").write_text("".join(f"other {n}|answer {n}\n" for n in range(9)))
    code, _, err = call("run", "recipe.toml", "--set", "trainer.steps=6")
    assert code == 0, err
    third = "runs/recipe-003"
    results = Path(third, "results.json")
    kept = json.loads(results.read_text())
    kept["main"]["after"]["measures"]["distance"]["value"] = 77.0  # what other rows came to is not shown
    results.write_text(json.dumps(kept))
    found = compared(call, third, two[0])
    assert [entry["again"] for entry in found["entries"]] == [False, False, True]
    assert found["entries"][2]["measures"]["distance"]["value"] < 1


def test_what_cannot_be_compared_is_refused_in_a_sentence(call: Callable[..., Output], two: list[str]) -> None:
    state = Path(two[1], "state.json")
    state.write_text(json.dumps({**json.loads(state.read_text()), "status": "stopped"}))
    code, _, err = call("compare", *two)
    assert code == 65
    assert "only finished runs can be compared" in err
    assert f"tunesmith resume {two[1]}" in err
    for words in ((two[0], "--steps", "3"), ("recipe.toml", "--against", "base"), ("recipe.toml", "recipe.toml")):
        code, _, err = call("compare", *words)
        assert code == 2
        assert "fix: " in err
