"""Values that no machine can have end with one message at their place, whatever the key; a fuzzed recipe too."""

from __future__ import annotations

import importlib
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tomli
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunesmith import RecipeError, Registry, TunesmithError
from tunesmith.plan import make_plan
from tunesmith.recipe import Recipe

NIGHTLY = os.environ.get("FAULTS") == "all"
EXAMPLES = 10_000 if NIGHTLY else 200
LONG = "n" * 300
CODES = {1, 2, 65, 69, 70, 71, 74, 75, 78}

#: key, value, what the message says
CASES = [
    ("trainer.batch_size", 2**70, "bits; 63 are the most"),
    ("trainer.max_steps", -(2**70), "bits; 63 are the most"),
    ("trainer.learning_rate", math.inf, "a finite number is needed"),
    ("trainer.learning_rate", math.nan, "a finite number is needed"),
    ("trainer.learning_rate", 1e300, "more than a number of 32 bits holds"),
    ("run.threads", 2**40, "less than or equal to 4096"),
    ("run.device", "quantum", "is no device"),
    ("run.name", LONG, "a folder's name takes"),
    ("run.folder", "~nosuchuser/x", "there is no such user"),
    ("run.folder", LONG, "255 are the most"),
    ("data.path", "a\0b", "NUL"),
    ("data.path", LONG, "255 are the most"),
    ("data.path", "~nosuchuser/rows.jsonl", "there is no such user"),
    ("data.path", "/".join(["d" * 200] * 30), "4096 are the most"),
    ("data.columns", {"prompt": "a\0b"}, "NUL"),
    ("model.source", "./" + LONG, "255 are the most"),
    ("model.source", "~nosuchuser/model", "there is no such user"),
    ("model.source", "ti\0ny", "NUL"),
    ("adapter.rank", 10**5000, "bits; 63 are the most"),
]


PLUGINS = ("data", "lora", "sft", "transformers")
TEXT = """
[run]
device = "cpu"
[model]
source = {model}
[data]
use = "jsonl"
path = "rows.jsonl"
[adapter]
use = "lora"
rank = 4
[trainer]
use = "sft"
max_steps = 1
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Path) -> Path:
    """A folder with a recipe and its rows."""
    folder = tmp_path_factory.mktemp("possible")
    (folder / "rows.jsonl").write_text('{"prompt": "1+1=", "completion": "2"}\n' * 3)
    (folder / "recipe.toml").write_text(TEXT.format(model=json.dumps(str(tiny_folder))))
    return folder


@pytest.fixture(scope="module")
def registry() -> Registry:
    made = Registry()
    for name in PLUGINS:
        made.add(importlib.import_module(f"tunesmith_{name}"), distribution=f"tunesmith-{name}", version="0.1.0")
    return made


@pytest.fixture(scope="module")
def recipe(house: Path) -> Callable[..., Recipe]:
    """The recipe with some values, as if they stood in its file."""

    def make(changes: dict[str, Any]) -> Recipe:
        tree = tomli.loads((house / "recipe.toml").read_text())
        for key, value in changes.items():
            table, _, name = key.partition(".")
            tree.setdefault(table, {})[name] = value
        return Recipe(tree, house / "recipe.toml")

    return make


@pytest.mark.parametrize(("key", "value", "said"), CASES, ids=[f"{key}-{said}" for key, _, said in CASES])
def test_a_value_that_nothing_can_hold_is_refused_where_it_stands(
    key: str, value: Any, said: str, registry: Registry, recipe: Callable[..., Recipe]
) -> None:
    with pytest.raises(RecipeError) as refused:
        make_plan(recipe({key: value}), registry)
    assert said in str(refused.value)
    assert key in str(refused.value)
    assert "recipe.toml" in str(refused.value.where)


def test_digits_without_end_in_a_file_are_refused(house: Path, registry: Registry, tmp_path: Path) -> None:
    from tunesmith.recipe import read

    path = tmp_path / "recipe.toml"
    path.write_text((house / "recipe.toml").read_text().replace("rank = 4", f"rank = {'9' * 5000}"))
    with pytest.raises(RecipeError) as refused:
        make_plan(read(path), registry)
    assert "recipe.toml" in str(refused.value.where)


# --- anything at all --------------------------------------------------------------------------
KEYS = (
    *(f"run.{key}" for key in ("folder", "name", "seed", "repetition", "device", "threads", "max_lost_rows")),
    *(f"model.{key}" for key in ("source", "dtype", "attention", "chat_template", "pooling", "use")),
    *(f"data.{key}" for key in ("path", "validation", "limit", "columns", "keep", "system", "format", "group")),
    *(f"adapter.{key}" for key in ("rank", "alpha", "dropout", "target_modules", "rank_pattern", "init", "use")),
    *(f"trainer.{key}" for key in ("learning_rate", "epochs", "max_steps", "batch_size", "warmup_steps", "optim")),
    *(f"trainer.{key}" for key in ("lr_scheduler_type", "max_length", "arguments", "eval_steps", "overlong", "use")),
)
SCALARS = st.one_of(
    st.none().map(lambda _: ""),
    st.booleans(),
    st.integers(),
    st.integers(min_value=-(2**80), max_value=2**80),
    st.floats(),
    st.text(max_size=30),
    st.sampled_from(
        ("~x/y", "..", "/dev/null", LONG, "a\0b", "cuda:99", "file.py:name", "wheel:a==1", "a/b@c", "lora")
    ),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(changes=st.dictionaries(st.sampled_from(KEYS), VALUES, min_size=1, max_size=3))
def test_any_recipe_is_planned_or_refused_with_one_message(
    changes: dict[str, Any], registry: Registry, recipe: Callable[..., Recipe]
) -> None:
    refused: TunesmithError | None = None
    try:
        make_plan(recipe(changes), registry)
    except TunesmithError as error:
        refused = error
    if refused is not None:
        assert refused.exit_code in CODES
        assert str(refused)
        assert "defect" not in f"{refused} {refused.fix}", (changes, str(refused))
