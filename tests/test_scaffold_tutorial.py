"""The tutorial shows what `tunesmith plugins new` writes, word for word."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from tunesmith import Registry
from tunesmith.testing import check_plugin
from tunesmith.testing.check import failures
from tunesmith.testing.scaffold import KINDS, write_file, write_package

TUTORIAL = Path(__file__).parents[1] / "docs/tutorial/your-first-plugin.md"
TEXT = TUTORIAL.read_text(encoding="utf-8")
BLOCKS = [match[2] for match in re.findall(r"^(`{3,})(\w+)\n(.*?)^\1$", TEXT, re.DOTALL | re.MULTILINE)]


def test_every_file_of_the_package_is_shown_as_it_is_written(tmp_path: Path) -> None:
    for path in write_package(tmp_path / "p", "tunesmith-mymethod", "adapter"):
        assert path.read_text(encoding="utf-8") in BLOCKS, path.name


def test_the_single_file_is_shown_as_it_is_written(tmp_path: Path) -> None:
    assert write_file(tmp_path / "my_method.py").read_text(encoding="utf-8") in BLOCKS


def test_every_kind_is_named() -> None:
    assert [kind for kind in KINDS if f"`{kind}`" not in TEXT and f"--kind {kind}" not in TEXT] == []


def test_the_formula_and_the_examples_work_and_every_check_is_explained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (formula,) = (block for block in BLOCKS if block.startswith("def parameters"))
    (examples,) = (block for block in BLOCKS if block.startswith("tunesmith_examples"))
    write_package(tmp_path, "tunesmith-mymethod", "adapter")
    init, adapter = (tmp_path / "tunesmith_mymethod" / name for name in ("__init__.py", "adapter.py"))
    record = "factory=factory)"
    text = init.read_text(encoding="utf-8")
    assert record in text
    named = text.replace(record, 'factory=factory, formula="tunesmith_mymethod.adapter:parameters")')
    init.write_text(f"{named}\n\n{examples}", encoding="utf-8")
    adapter.write_text(adapter.read_text(encoding="utf-8") + "\n\n" + formula, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = Registry()
    registry.add(importlib.import_module("tunesmith_mymethod"))
    results = check_plugin("mymethod", registry)
    assert failures(results) == []
    details = {result.component: result.detail for result in results if result.name == "parameter-formula"}
    assert details == {
        "adapter mymethod": "128 parameters, as the formula says",
        "adapter mymethod targets=['lm_head']": "32 parameters, as the formula says",
    }
    explained = re.findall(r"^\| `([a-z-]+)` \|", TEXT, re.MULTILINE)
    assert sorted(explained) == sorted({result.name for result in results})
