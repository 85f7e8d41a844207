"""What is counted, and refused, over packed weights: by a run, by a comparison, and by `plan --probe`."""

from __future__ import annotations

import pytest

from tunesmith import RecipeError
from tunesmith.context import Context
from tunesmith.plan import make_plan
from tunesmith.probe import probe
from tunesmith.recipe import read

DENSE = 35_168
LORA = 4_096  # of rank 4
STAGES = """
[stages.first]
quantizer.use = "nf4"
adapter = {{use = "lora", rank = 4}}
model.source = {source}
data = {{use = "jsonl", path = "rows.jsonl"}}
trainer = {{use = "sft", learning_rate = 0.05, max_steps = 2, batch_size = 4}}
[stages.second]
model.from = "first"
data = {{use = "jsonl", path = "rows.jsonl"}}
adapter.use = "last-layers"
trainer = {{use = "sft", learning_rate = 0.05, max_steps = 1, batch_size = 4}}
"""


def probed(house, *sets, stage="main"):
    registry = house.make_registry()
    plan = make_plan(read(house.folder / "recipe.toml", sets), registry)
    (found,) = probe(plan, plan.stage(stage), registry, Context(device="cpu", folder=house.folder))
    return found


@pytest.mark.parametrize("quantizer", ["nf4", "int8"])
def test_a_run_counts_the_values_and_not_the_bytes_that_hold_them(house, quantizer):
    run = house.run(f"quantizer.use={quantizer}", "trainer.max_steps=1", "trainer.save_steps=1", "evaluate=[]")
    training = run.results["main"].training
    assert (training["trainable_parameters"], training["parameters"]) == (LORA, DENSE + LORA)


@pytest.mark.parametrize("quantizer", ["nf4", "int8"])
def test_a_probe_loads_what_is_quantized_and_counts_its_values(house, quantizer):
    found = probed(house, f"quantizer.use={quantizer}")
    dense = probed(house)
    assert (found.moves, found.total) == (dense.moves, dense.total) == (LORA, DENSE + LORA)
    assert found.loaded
    assert found.memory < dense.memory


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (("quantizer.use=nf4", "adapter={use='last-layers'}"), "last-layers needs dense weights, and model.layers"),
        (("quantizer.use=nf4", "adapter={use='regex', pattern='mlp'}"), "'mlp' matches needs dense weights"),
        (("quantizer.use=int8", "adapter.use_dora=true"), "loses the scales of int8 weights on a CPU"),
    ],
)
def test_a_probe_refuses_what_the_run_refuses(house, sets, said):
    with pytest.raises(RecipeError, match=said):
        probed(house, *sets)
    with pytest.raises(RecipeError, match=said):
        house.run(*sets)


def test_a_stage_after_a_quantized_one_is_probed_on_dense_weights(house):
    text = (house.folder / "recipe.toml").read_text()
    source = text.split("source = ")[1].split("\n")[0]
    (house.folder / "recipe.toml").write_text(STAGES.format(source=source))
    assert probed(house, stage="first").loaded
    found = probed(house, stage="second")
    assert not found.loaded
    assert found.total == DENSE
    assert found.moves > 0
