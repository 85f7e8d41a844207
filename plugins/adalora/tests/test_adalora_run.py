"""Whole runs under the supervised trainer: the ranks move, are recorded and drawn, and a stopped run loses nothing."""

from __future__ import annotations

import hashlib
import json

import pytest
import torch

from tunesmith import Context
from tunesmith.artifact import load_artifact

ADAPTER = 'adapter={use="adalora",target_rank=2,init_rank=4,dropout=0.1}'


def digest(run):
    return {
        name: hashlib.sha256((run / "artifact" / name).read_bytes()).hexdigest()
        for name in ("adapter_model.safetensors", "adapter_config.json")
    }


def test_a_run_records_ranks_and_budget(house):
    run = house.run(ADAPTER)
    facts = json.loads((run.folder / "result.json").read_text())["facts"]
    assert facts["budget"][0] == [0, 56]
    assert facts["budget"][-1] == [6, 28]
    assert sum(facts["ranks"].values()) == 28
    assert len(set(facts["ranks"].values())) > 1
    assert "budget: 56 at step 0, 28 at step 6" in (run.folder / "report.html").read_text()
    losses = [json.loads(line)["loss"] for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    plain = house.run(ADAPTER.replace("}", ",orth_reg_weight=0}"))
    bare = [json.loads(line)["loss"] for line in (plain.folder / "metrics.jsonl").read_text().splitlines()]
    assert 0.4 < losses[0] - bare[0] < 2  # the orthogonal term reaches the trainer's loss
    context = Context(device="cpu", folder=house.folder)
    loaded = load_artifact(run.folder / "artifact", house.make_registry(), context)
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        unmerged = loaded.model(ids).logits
        torch.testing.assert_close(loaded.merge()(ids).logits, unmerged)


@pytest.mark.parametrize("step", [1, 3, 5])
def test_a_stopped_run_resumes_to_the_same_bits(house, step):
    whole = house.run(ADAPTER)
    part = house.stopped(step, ADAPTER)
    again = house.resume(part)
    assert digest(part) == digest(whole.folder)
    assert again.results["main"].facts["budget"] == whole.results["main"].facts["budget"]
    assert again.results["main"].facts["ranks"] == whole.results["main"].facts["ranks"]
