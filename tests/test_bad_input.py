"""Mistakes in recipes and data: each ends in one message and its exit code, and leaves nothing that looks done."""

from __future__ import annotations

import gzip
import importlib.metadata
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

DISK, DATA, MISSING, NUMERICAL, RECIPE = 74, 65, 69, 70, 78


# --- recipes ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"trainr.use": "sft"}, ("'trainr'", "Did you mean 'trainer'?")),
        ({"seed": 3}, ("'seed'",)),
        ({"run.sede": 3}, ("'sede'", "Did you mean 'seed'?")),
        ({"model.sorce": "x"}, ("'sorce'", "Did you mean 'source'?")),
        ({"data.pth": "x"}, ("'pth'", "Did you mean 'path'?")),
        ({"adapter.rnk": 8}, ("'rnk'", "Did you mean 'rank'?")),
        ({"trainer.learningrate": 1.0}, ("'learningrate'", "Did you mean 'learning_rate'?")),
        ({"trainer.arguments": {"max_grad_nrm": 1.0}}, ("SFTConfig", "'max_grad_nrm'", "Did you mean")),
        ({"evaluate": [{"use": "perplexity", "row": 3}]}, ("'row'", "Did you mean 'rows'?")),
        ({"adapter.rank": "eight"}, ("rank", '"eight"')),
        ({"adapter.rank": 4.5}, ("rank", "4.5")),
        ({"adapter.rank": 0}, ("rank", "greater than 0")),
        ({"trainer.epochs": True}, ("epochs",)),
        ({"data.validation": 1.5}, ("validation", "1.5")),
        ({"trainer.overlong": "cut"}, ("overlong", "'truncate'")),
        ({"run.seed": "one"}, ("seed", '"one"')),
        ({"model": "SmolLM"}, ("[model]", "table")),
        ({"trainer": ["sft"]}, ("[trainer]",)),
        ({"evaluate": {"use": "perplexity"}}, ("[[evaluate]]",)),
        ({"adapter": {"rank": 4}}, ("[adapter]", "use")),
        ({"model": {}}, ("source",)),
        ({"plugins": ["gone.py"]}, ("gone.py",)),
    ],
    ids=str,
)
def test_a_recipe_with_a_mistake(house: Any, changes: dict[str, Any], said: tuple[str, ...]) -> None:
    house.recipe(changes)
    message = house.refused(RECIPE, *said, before_the_run=True)
    assert "where: recipe.toml" in message


def test_a_recipe_that_is_no_toml(house: Any) -> None:
    house.write("recipe.toml", '[model]\nsource = "x\n')
    assert "recipe.toml:2" in house.refused(RECIPE, before_the_run=True)
    house.write("recipe.toml", b"\xff\xfe")
    house.refused(RECIPE, "UTF-8", before_the_run=True)
    (house.folder / "recipe.toml").unlink()
    house.refused(RECIPE, "recipe.toml", before_the_run=True)


@pytest.mark.parametrize(
    ("changes", "package"),
    [
        ({"adapter": {"use": "adalora"}}, "tunesmith-adalora"),
        ({"trainer.use": "ppo"}, "tunesmith-ppo"),
        ({"quantizer": {"use": "nf4"}}, "tunesmith-qlora"),
        ({"evaluate": [{"use": "classification"}]}, "tunesmith-classify"),
        ({"export": [{"use": "merge"}]}, "tunesmith-export"),
        ({"data.use": "parquet"}, "tunesmith-data"),
        ({"preset": "qlora"}, "tunesmith-qlora"),
    ],
    ids=str,
)
def test_a_plugin_that_is_not_installed(
    house: Any, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], package: str
) -> None:
    present = [item for item in importlib.metadata.distributions() if item.name != package]
    monkeypatch.setattr(importlib.metadata, "distributions", lambda **_: iter(present))
    house.recipe(changes)
    assert "where: recipe.toml:" in house.refused(MISSING, f"pip install {package}", before_the_run=True)


def test_a_misspelt_component(house: Any) -> None:
    house.recipe({"adapter.use": "lroa"})
    house.refused(MISSING, "'lroa'", "Did you mean 'lora'?", "installed adapters: ", before_the_run=True)


# --- where the run shall be -----------------------------------------------------------------------
def test_a_run_folder_that_is_a_file(house: Any) -> None:
    place = house.write("taken", "text")
    house.recipe({"run.folder": str(place)})
    house.refused(DISK, "a file, not a folder", before_the_run=True)
    house.recipe({"run.folder": str(place / "below")})
    house.refused(DISK, "a file, not a folder", before_the_run=True)
    assert place.read_text() == "text"


def test_a_run_folder_that_cannot_be_written(house: Any, mounted: Callable[[str], Path]) -> None:
    house.recipe({"run.folder": str(mounted("ro,size=64k") / "runs")})
    house.refused(DISK, "cannot be written", "disk-0", before_the_run=True)


# --- data -----------------------------------------------------------------------------------------
def good(number: int) -> str:
    return json.dumps({"prompt": f"{number}?", "completion": "yes"}) + "\n"


GOOD = "".join(good(number) for number in range(8))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, ("no such file", "rows.jsonl")),
        ("", ("empty",)),
        (b"PK\x03\x04xxxx", ("zip archive",)),
        ("[\n", ("rows.jsonl", "json")),
        ("{\n", ("rows.jsonl", "json")),
        (gzip.compress(GOOD.encode(), mtime=0)[:-12], ("gzip", "damaged")),
        ("\n\n", ("no rows",)),
        ('{"a": 1}\n{"a": 2}\n', ("not recognised", "columns found: 'a'")),
        (GOOD + "{bad\n{bad\n", ("2 of 10 rows", "bad JSON", "rows.jsonl:9, rows.jsonl:10")),
        (GOOD + '{"prompt": "cut', ("1 of 9 rows", "rows.jsonl:9", "cut")),
        (GOOD.encode() + b'{"prompt": "\xff", "completion": "x"}\n', ("1 of 9 rows", "UTF-8", "rows.jsonl:9")),
        (GOOD + '{"prompt": "a", "completion": 3}\n', ("1 of 9 rows", "rows.jsonl:9", "completion")),
        (GOOD + '{"prompt": "a", "completion": null}\n', ("1 of 9 rows", "rows.jsonl:9", "completion")),
        (GOOD + '{"prompt": "a"}\n', ("1 of 9 rows", "rows.jsonl:9", "prompts only")),
        (GOOD + "[1]\n", ("1 of 9 rows", "rows.jsonl:9")),
        ('{"prompt": "a", "completion": " "}\n' * 3, ("none of the 3 rows", "rows.jsonl:1")),
        (good(1), ("no rows are held out",)),
        (
            '{"prompt": "p", "chosen": "c", "rejected": "r"}\n{"prompt": "q", "chosen": "c", "rejected": "r"}\n',
            ("sft",),
        ),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_a_data_file_that_cannot_be_used(house: Any, content: str | bytes | None, said: tuple[str, ...]) -> None:
    house.recipe()
    if content is None:
        (house.folder / "rows.jsonl").unlink()
    else:
        house.write("rows.jsonl", content)
    early = content in (None, "", b"PK\x03\x04xxxx")
    house.refused(DATA, *said, before_the_run=early)


JUDGED = [
    {"messages": [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": "yes"}], "label": n % 2 == 0}
    for n in range(8)
]


@pytest.mark.parametrize(
    ("content", "changes", "said", "advice"),
    [
        (JUDGED, {}, ("'unpaired-preference' rows", 'pairs = "wanted"'), {"data.pairs": "wanted"}),
        (JUDGED, {"data.pairs": "unpaired"}, ("have labels already",), {"data.pairs": "wanted"}),
        (
            [{"prompt": f"{n}?", "chosen": "yes", "rejected": "no"} for n in range(8)],
            {},
            ("'preference' rows", 'pairs = "wanted"'),
            {"data.pairs": "wanted"},
        ),
        ("One line, and more.\nAnother, of prose.\n", {"data.use": "csv"}, ('use = "text"',), {"data.use": "text"}),
        ("One line, and more.\nAnother, of prose.\n", {}, ("no row can be read", '"text"'), {"data.use": "text"}),
        (json.dumps(JUDGED[0], indent=1), {"data.pairs": "wanted"}, ('use = "json"',), {"data.use": "json"}),
        (json.dumps(JUDGED), {"data.pairs": "wanted"}, ('use = "json"',), {"data.use": "json"}),
        (JUDGED, {"data.use": "json", "data.pairs": "wanted"}, ('use = "jsonl"',), {"data.use": "jsonl"}),
    ],
)
def test_the_advice_on_a_shape_of_data_works_when_followed(
    house: Any, content: Any, changes: dict[str, Any], said: tuple[str, ...], advice: dict[str, Any]
) -> None:
    text = content if isinstance(content, str) else "".join(json.dumps(row) + "\n" for row in content)
    house.write("rows.txt", text)
    data = {"data": {"use": "jsonl", "path": "rows.txt"}, "evaluate": []}
    house.recipe({**data, **changes})
    refused = house.call("data", "check", "recipe.toml")
    assert refused.code in (DATA, RECIPE)
    for part in said:
        assert part in refused.err
    house.recipe({**data, **changes, **advice})
    followed = house.call("data", "check", "recipe.toml")
    assert followed.code == 0, followed.err


def test_a_data_file_with_a_misspelt_name(house: Any) -> None:
    house.recipe({"data.path": "row.jsonl"})
    house.refused(DATA, "row.jsonl", "Did you mean 'rows.jsonl'?", before_the_run=True)
