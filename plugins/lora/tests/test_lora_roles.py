"""A policy that goes on with an earlier stage's adapter beside the reference that this adapter was, on one base."""

from __future__ import annotations

import json

import pytest
import torch

from tunesmith import Role, Trainer, TrainResult, hookimpl
from tunesmith.context import SilentReporter
from tunesmith.plan import make_plan
from tunesmith.recipe import read
from tunesmith.run import start

IDS = torch.arange(3, 30).view(1, -1)
Q = "model.layers.0.self_attn.q_proj"


class Duel:
    """A trainer of a policy with a frozen reference, which looks at both while it trains."""

    def __init__(self, default=None):
        self.roles = (Role(name="policy", trainable=True), Role(name="reference", default=default))
        self.seen = {}

    @hookimpl
    def tunesmith_trainers(self):
        yield Trainer(name="duel", summary="A toy.", factory=self.train, roles=self.roles)

    def train(self, models, data, settings, context):
        policy, reference = models["policy"], models["reference"]
        policy.model.eval()

        def outputs():
            with torch.no_grad():
                ours = policy.model(IDS).logits
                with reference.use() as model:
                    theirs = model(IDS).logits
                    weight = base_weight(model)
            return ours, theirs, (weight.data_ptr(), base_weight(policy.model).data_ptr())

        before = outputs()
        optimizer = torch.optim.SGD(policy.trainable().values(), lr=0.5)
        for _ in range(2):
            with reference.use() as model, torch.no_grad():
                model(IDS)
            policy.model(input_ids=IDS, labels=IDS).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        self.seen = {"before": before, "after": outputs(), "frozen": reference.trainable()}
        return TrainResult(steps=2, total_steps=2, metrics={}, seconds=0.0, tokens=0)


def base_weight(model):
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    layer = inner.get_submodule(Q)
    return (layer.get_base_layer() if hasattr(layer, "get_base_layer") else layer).weight


def run(house, duel, second):
    recipe = (house.folder / "recipe.toml").read_text()
    source = json.dumps(recipe.split("source = ")[1].split("\n")[0].strip('"'))
    (house.folder / "stages.toml").write_text(
        f"""
        [run]
        folder = {json.dumps(str(house.folder / "staged"))}
        device = "cpu"
        [stages.sft]
        model.source = {source}
        data = {{use = "jsonl", path = "rows.jsonl"}}
        adapter = {{use = "lora", rank = 4}}
        trainer = {{use = "sft", learning_rate = 0.05, max_steps = 2, batch_size = 4}}
        [stages.duel]
        data = {{use = "jsonl", path = "rows.jsonl"}}
        trainer.use = "duel"
        {second.format(source=source)}
        """
    )
    registry = house.make_registry()
    registry.add(duel, name="duel")
    return start(make_plan(read(house.folder / "stages.toml", ()), registry), registry, SilentReporter())


def moved(a, b):
    return float((a - b).abs().max())


@pytest.mark.parametrize(
    ("second", "same_at_first"),
    [
        ('models = {{policy = {{from = "sft"}}, reference = {{from = "sft"}}}}', True),
        ('models = {{policy = {{from = "sft"}}, reference = {{source = {source}}}}}', False),
        (
            'models = {{policy = {{from = "sft"}}, reference = {{from = "sft", carry = "merge"}}}}\n'
            'adapter = {{use = "lora", rank = 2}}',
            True,
        ),
    ],
)
def test_the_reference_stays_and_shares_the_base(house, second, same_at_first):
    duel = Duel()
    run(house, duel, second)
    (ours, theirs, pointers), (ours_after, theirs_after, pointers_after) = duel.seen["before"], duel.seen["after"]
    assert torch.equal(ours, theirs) == same_at_first
    assert torch.equal(theirs, theirs_after)
    assert moved(ours, ours_after) > 1e-3
    assert len({*pointers, *pointers_after}) == 1
    assert duel.seen["frozen"] == {}


@pytest.mark.parametrize(
    ("second", "same_at_first"),
    [
        ('models = {{policy = {{from = "sft"}}}}', True),
        ('models = {{policy = {{from = "sft"}}}}\nadapter = {{use = "lora", rank = 2}}', True),
    ],
)
def test_the_default_reference_is_what_the_stage_began_with(house, second, same_at_first):
    duel = Duel("policy:disabled")
    run(house, duel, second)
    (ours, theirs, pointers), (ours_after, theirs_after, _) = duel.seen["before"], duel.seen["after"]
    assert torch.equal(ours, theirs) == same_at_first
    assert torch.equal(theirs, theirs_after)
    assert moved(ours, ours_after) > 1e-3
    assert len(set(pointers)) == 1
