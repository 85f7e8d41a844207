"""A comparison of real adapters on the tiny model."""

from __future__ import annotations

import json
from typing import Any

import pytest


def test_adapters_on_the_tiny_model(house: Any) -> None:
    house.write("general.jsonl", "".join(json.dumps({"text": f"{n} birds sat on a wall."}) + "\n" for n in range(6)))
    house.recipe({"compare.general": {"use": "jsonl", "path": "general.jsonl"}})
    words = (
        "--adapter",
        "lora rank=2 alpha=64",
        "--adapter",
        "lora rank=2 alpha=3e38 name=huge",
        "--steps",
        "1",
        "--json",
    )
    ended = house.call("compare", "recipe.toml", *words)
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    base, (lora, huge) = found["base"], found["methods"]
    assert (lora["status"], huge["status"]) == ("done", "failed")
    assert "gradient norm at step 1 is inf" in huge["error"]["what"]
    assert (lora["steps"], lora["settings"]["rank"]) == (1, 2)
    assert 0 < lora["trainable_parameters"] < lora["parameters"]
    assert lora["size"] > 4 * lora["trainable_parameters"]
    assert lora["memory"]["bytes"] > 2**27
    first, last = base["general"]["perplexity"], lora["general"]["perplexity"]
    assert (first["n"], first["weights"]) == (6, last["weights"])
    change = lora["general_change"]
    assert change["value"] == pytest.approx(100 * (last["value"] / first["value"] - 1))
    assert change["low"] <= change["value"] <= change["high"]
    assert change["low"] < change["high"]
