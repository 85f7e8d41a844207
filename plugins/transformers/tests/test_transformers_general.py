"""What a run measures without being asked, and the perplexity of general text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tunesmith import DataError
from tunesmith_transformers.evaluation.general import TEXT, read_texts


def silent(house: Any) -> None:
    """Take [[evaluate]] out of the recipe."""
    path = house.folder / "recipe.toml"
    path.write_text(path.read_text().partition("[[evaluate]]")[0])


def test_a_recipe_without_evaluators_ends_with_a_verdict(house: Any) -> None:
    silent(house)
    (result,) = house.run().results.values()
    assert set(result.before["measures"]) == set(result.after["measures"]) == {"perplexity", "general_perplexity"}
    moved = {found["name"]: found for found in result.verdict}
    assert moved["perplexity"]["outcome"] == "better"
    assert moved["perplexity"]["p"] < 0.05
    assert moved["general_perplexity"]["n"] == 24
    assert result.held_out


def test_what_the_recipe_names_is_measured_once_and_forgetting_besides(house: Any) -> None:
    plan = house.run("trainer.max_steps=1").plan
    assert [(use.component.name, use.implied) for use in plan.stages[0].evaluators] == [
        ("perplexity", False),
        ("general-perplexity", True),
    ]


@pytest.mark.parametrize("sets", [("run.verdict=false",), ("evaluate=[]",)], ids=str)
def test_it_can_be_left_out(house: Any, sets: tuple[str, ...]) -> None:
    silent(house)
    (result,) = house.run("trainer.max_steps=1", *sets).results.values()
    assert (result.before["measures"], result.after["measures"], result.verdict) == ({}, {}, [])


def test_without_held_out_rows_only_forgetting_is_measured(house: Any) -> None:
    silent(house)
    (result,) = house.run("trainer.max_steps=1", "data.validation=0").results.values()
    assert set(result.after["measures"]) == {"general_perplexity"}
    assert result.held_out == ""


def test_what_is_measured_unasked_does_not_change_what_a_stage_is(house: Any) -> None:
    told, asked = house.run("trainer.max_steps=1"), house.run("trainer.max_steps=1", "run.verdict=false")
    assert told.plan.stages[0].fingerprint == asked.plan.stages[0].fingerprint


def test_own_text_is_read_by_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "prose.jsonl"
    path.write_text(json.dumps({"text": "A bird sat on a wall."}) + "\n\n" + json.dumps({"text": "It sang."}) + "\n")
    assert list(read_texts(path)) == [
        ("prose.jsonl:1", {"text": "A bird sat on a wall."}),
        ("prose.jsonl:3", {"text": "It sang."}),
    ]
    assert len(read_texts(TEXT)) == 48


@pytest.mark.parametrize(
    ("content", "said"), [("{", "not JSON"), ('{"words": 1}', "needs `text`"), (None, "cannot be read")], ids=str
)
def test_a_text_that_cannot_be_read_is_named(tmp_path: Path, content: str | None, said: str) -> None:
    path = tmp_path / "prose.jsonl"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=said) as raised:
        read_texts(path)
    assert str(path) in str(raised.value.where)
