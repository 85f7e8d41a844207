"""A stage that stands on the merged result of one that was trained over a quantized base."""

from __future__ import annotations

import json

import pytest
import torch

from tunesmith.artifact import load_artifact
from tunesmith.context import Context
from tunesmith.plan import make_plan
from tunesmith.recipe import read
from tunesmith.run import start

RECIPE = """
[run]
folder = {folder}
device = "cpu"
[stages.first]
model.source = {source}
quantizer.use = "nf4"
data = {{use = "jsonl", path = "rows.jsonl"}}
adapter = {{use = "lora", rank = 4}}
trainer = {{use = "sft", learning_rate = 0.05, max_steps = 2, batch_size = 4}}
[stages.second]
model.from = "first"
data = {{use = "jsonl", path = "rows.jsonl"}}
adapter = {{use = "lora", rank = 2}}
trainer = {{use = "sft", learning_rate = 0.05, max_steps = 1, batch_size = 4}}
"""


class Heard:
    """A reporter that keeps what is said."""

    def __init__(self):
        self.said = []

    def say(self, message):
        self.said.append(message)

    warn = say

    def phase(self, name): ...

    def progress(self, step, total, metrics): ...


def test_the_adapter_is_merged_into_the_full_base_and_the_run_says_so(house):
    source = (house.folder / "recipe.toml").read_text().split("source = ")[1].split("\n")[0].strip('"')
    text = RECIPE.format(folder=json.dumps(str(house.folder / "staged")), source=json.dumps(source))
    (house.folder / "stages.toml").write_text(text)
    registry, heard = house.make_registry(), Heard()
    run = start(make_plan(read(house.folder / "stages.toml"), registry), registry, heard)
    assert any("is merged into the base in full precision" in said for said in heard.said)

    first, second = (run.results[name].artifact for name in ("first", "second"))
    context = Context(device="cpu", folder=house.folder)
    merged = load_artifact(first, registry, context, dense=True).merge()
    adapted = load_artifact(second, registry, context)
    assert adapted.handle.quantized is None
    ids = torch.arange(10).reshape(1, -1)
    with torch.no_grad(), adapted.disabled() as base:
        assert base(ids).logits == pytest.approx(merged(ids).logits, abs=1e-6)
