"""Rows through steps, as a run prepares them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

import tunesmith_data
from tunesmith import Context, Dataset, Registry
from tunesmith.plan import Use
from tunesmith.preparation import load
from tunesmith.recipe import Recipe, check_settings


@pytest.fixture(scope="module")
def registry() -> Registry:
    found = Registry()
    found.add(tunesmith_data, distribution="tunesmith-data", version="0.1.0")
    assert not found.problems
    return found


@pytest.fixture
def prepare(registry: Registry, context: Context) -> Callable[..., Dataset]:
    """Load rows through some steps, each a table as a recipe has it."""

    def use(kind: str, table: Mapping[str, Any], steps: Sequence[Use] = ()) -> Use:
        entry = registry.find(kind, table["use"])
        rest = {key: value for key, value in table.items() if key != "use"}
        settings = check_settings(entry.component.settings, rest, Recipe({}), ())
        return Use(entry.component, entry.qualified, "tunesmith-data", "0.1.0", settings, steps=tuple(steps))

    def make(
        rows: Sequence[Any],
        *steps: Mapping[str, Any],
        held: Sequence[Any] = (),
        repetition: int = 0,
        **settings: Any,
    ) -> Dataset:
        for name, content in (("rows.jsonl", rows), ("held.jsonl", held)):
            (context.folder / name).write_text("".join(json.dumps(row) + "\n" for row in content), encoding="utf-8")
        own = {"validation_path": "held.jsonl"} if held else {}
        table = {"use": "jsonl", "path": "rows.jsonl", **own, **settings}
        return load(use("loader", table, [use("step", step) for step in steps]), context.with_(repetition=repetition))

    return make
