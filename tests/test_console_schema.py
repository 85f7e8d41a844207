"""The JSON Schema of recipes, how settings are told, and first recipes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import jsonschema
import pytest
import tomli
from annotated_types import Interval, MinLen

from tunesmith import Registry
from tunesmith.console import main
from tunesmith.console.init import recipe_text
from tunesmith.plan import make_plan
from tunesmith.recipe import read
from tunesmith.schema import describe_settings, recipe_schema, type_name

TOY = Path(__file__).with_name("test_console_toy.py")


@pytest.fixture
def toys() -> Registry:
    registry = Registry()
    registry.add_file(TOY)
    return registry


# --- schema -----------------------------------------------------------------------------------
GOOD: dict[str, Any] = {
    "model": {"source": "toy:one"},
    "data": {"use": "pairs", "path": "pairs.txt"},
    "adapter": {"use": "move"},
    "trainer": {"use": "pull", "steps": 2},
    "evaluate": [{"use": "distance"}],
}
TRAINER = {"use": "pull"}


@pytest.fixture
def validator(toys: Registry) -> jsonschema.Draft202012Validator:
    schema = recipe_schema(toys)
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"run": {"seed": 1, "folder": "elsewhere"}},
        {"model": {"use": "toy", "source": "toy:one", "adapter": {"use": "move"}}},
        {"trainer": {"use": "local/pull"}},
        {"preset": "quick", "trainer": {"steps": 2}, "data": {"path": "x"}},
        {"preset": [{"use": "quick"}], "trainer": {}},
    ],
)
def test_the_schema_takes_good_recipes(validator: Any, changes: dict[str, Any]) -> None:
    assert list(validator.iter_errors({**GOOD, **changes})) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"trainer": {"use": "pull", "stesp": 2}},
        {"trainer": {"use": "pull", "steps": "two"}},
        {"trainer": {"use": "pull", "steps": 0}},
        {"trainer": {"use": "push"}},
        {"trainer": {"steps": 2}},
        {"data": {"use": "pairs"}},
        {"model": {}},
        {"evaluate": {"use": "distance"}},
        {"run": {"sede": 1}},
        {"adaptor": {"use": "move"}},
        {"preset": "quick", "trainer": {"stesp": 2}},
    ],
)
def test_the_schema_refuses_mistakes(validator: Any, changes: dict[str, Any]) -> None:
    assert list(validator.iter_errors({**GOOD, **changes})) != []


def test_the_schema_takes_pipelines_and_refuses_slips_in_them(validator: Any) -> None:
    second = {"model": {"from": "one"}, "trainer": TRAINER, "data": GOOD["data"]}
    assert list(validator.iter_errors({"stages": {"one": GOOD, "two": second}})) == []
    assert list(validator.iter_errors({"stages": {"one": GOOD, "two": {**second, "trianer": TRAINER}}})) != []


def test_schema_prints_json_with_docs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema", "--file", str(TOY)]) == 0
    out = capsys.readouterr().out
    trainer = json.loads(out)["$defs"]["trainer.pull"]["properties"]
    assert trainer["steps"]["description"] == "How many steps to take."
    assert trainer["steps"]["exclusiveMinimum"] == 0


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (int, "int"),
        (bool, "true | false"),
        (str | None, "text | none"),
        (Annotated[float, Interval(ge=0, lt=1)], "float >= 0 < 1"),
        (Annotated[str, MinLen(1)] | None, "text (not empty) | none"),
        (Literal["a", "b"], '"a" | "b"'),
        (tuple[str, ...], "list of text"),
        (dict[str, int], "table"),
        (Path, "path"),
    ],
)
def test_types_are_told_in_words(hint: Any, words: str) -> None:
    assert type_name(hint) == words


# --- init -------------------------------------------------------------------------------------
def test_init_writes_a_recipe_that_only_lacks_what_it_says(toys: Registry, tmp_path: Path) -> None:
    text = recipe_text(toys, tmp_path, "toy:one", None)
    tree = tomli.loads(text)
    assert tree["data"]["path"] == "FILL-IN"
    assert tree["adapter"] == {"use": "move"}
    assert "#: steps = 4" in text
    assert "# How many steps to take." in text
    (tmp_path / "recipe.toml").write_text(text)
    plan = make_plan(read(tmp_path / "recipe.toml"), toys)
    assert plan.stages[0].trainer.component.name == "pull"


def test_every_comment_of_a_default_is_valid_when_uncommented(toys: Registry, tmp_path: Path) -> None:
    text = recipe_text(toys, tmp_path, "toy:one", None)
    (tmp_path / "recipe.toml").write_text(text.replace("#: ", ""))
    assert make_plan(read(tmp_path / "recipe.toml"), toys).stages[0].trainer.settings == describe_default(toys)


def describe_default(toys: Registry) -> Any:
    settings = toys.find("trainer", "pull").component.settings
    assert {field.name for field in describe_settings(settings)} == {"steps", "rate", "fault"}
    return settings()
