"""The plugin as a whole, perplexity, and the content of checkpoints."""

from __future__ import annotations

import json
import math
import random

import numpy as np
import pytest
import torch

import tunesmith_transformers
from tunesmith import DataError, Dataset, Records
from tunesmith_transformers.evaluation import perplexity
from tunesmith_transformers.training import checkpoint
from tunesmith_transformers.training.settings import PerplexitySettings

ROWS = Records(
    [
        {"prompt": "1+1=", "completion": "2"},
        {"prompt": "ten", "completion": "fingers"},
        {"prompt": "a", "completion": "b"},
    ],
    ["one", "two", "three"],
)
DATA = Dataset(type="prompt-completion", train=Records([], []), validation=ROWS)


def test_the_plugin_passes_the_kit(check_plugin):
    source = {"source": "./model"}
    check_plugin(
        tunesmith_transformers,
        examples={"directory": source, "gguf": source, "hub": source, "wheel": {"source": "wheel:a==1"}},
    )


def test_perplexity_equals_the_formula(tiny_handle, context):
    found = perplexity.evaluate(tiny_handle, DATA, PerplexitySettings(batch_size=2), context).measures["perplexity"]
    total, count, per_row = 0.0, 0, []
    tokenizer = tiny_handle.tokenizer
    for _, row in ROWS:
        head = tokenizer(row["prompt"])["input_ids"]
        ids = torch.tensor([[*head, *tokenizer(row["completion"])["input_ids"], tokenizer.eos_token_id]])
        with torch.no_grad():
            logs = tiny_handle.model(ids).logits[0].log_softmax(-1)
        own = [-logs[t - 1, ids[0, t]].item() for t in range(len(head), ids.shape[1])]
        total, count = total + sum(own), count + len(own)
        per_row.append(sum(own) / len(own))
    assert found.value == pytest.approx(math.exp(total / count), rel=1e-5)
    assert found.per_row == pytest.approx(per_row, rel=1e-5)
    assert found.low <= found.value <= found.high
    assert (found.n, found.better) == (3, "lower")


def test_perplexity_of_some_rows_in_any_batch_size(tiny_handle, context):
    first = perplexity.evaluate(tiny_handle, DATA, PerplexitySettings(rows=2, batch_size=1), context)
    second = perplexity.evaluate(tiny_handle, DATA, PerplexitySettings(rows=2, batch_size=2), context)
    a, b = first.measures["perplexity"], second.measures["perplexity"]
    assert a.n == b.n == 2
    assert a.value == pytest.approx(b.value, rel=1e-5)


def test_perplexity_of_nothing_is_an_error(tiny_handle, context):
    with pytest.raises(DataError, match="none of the 3 held-out rows can be measured"):
        perplexity.evaluate(tiny_handle, DATA, PerplexitySettings(max_length=1), context)


@pytest.mark.parametrize("kind", ["AdamW", "SGD", "Adafactor"])
def test_an_optimizer_goes_through_files_unchanged(tmp_path, kind):
    weight = torch.nn.Parameter(torch.randn(4, 3))
    options = {"momentum": 0.9} if kind == "SGD" else {}
    optimizer = getattr(torch.optim, kind)([weight], lr=0.1, **options)
    for _ in range(3):
        weight.grad = torch.randn(4, 3)
        optimizer.step()
    tensors, plain = checkpoint.flatten_optimizer(optimizer.state_dict())
    checkpoint.write_tensors(tmp_path / "o.safetensors", tensors)
    back = checkpoint.unflatten_optimizer(
        checkpoint.read_tensors(tmp_path / "o.safetensors"), json.loads(json.dumps(plain))
    )
    copy = torch.nn.Parameter(weight.detach().clone())
    other = getattr(torch.optim, kind)([copy], lr=0.5, **options)
    other.load_state_dict(back)
    gradient = torch.randn(4, 3)
    for parameter, opt in ((weight, optimizer), (copy, other)):
        parameter.grad = gradient.clone()
        opt.step()
    assert torch.equal(weight, copy)


def test_tensors_are_written_from_where_they_stand(tmp_path, monkeypatch):
    """Only views and second names of a tensor are copied: a checkpoint of everything takes no second optimizer."""
    whole = torch.arange(12.0).reshape(3, 4)
    own = {"whole": whole, "tied": whole, "row": whole[1], "turned": whole.T, "bfloat16": whole.bfloat16()}
    given = {}
    save_file = checkpoint.save_file
    monkeypatch.setattr(
        checkpoint, "save_file", lambda tensors, path: given.update(tensors) or save_file(tensors, path)
    )
    checkpoint.write_tensors(tmp_path / "t.safetensors", own)
    assert [name for name in own if given[name].data_ptr() == own[name].data_ptr()] == ["whole", "bfloat16"]
    found = checkpoint.read_tensors(tmp_path / "t.safetensors")
    assert all(torch.equal(found[name], own[name]) for name in own)


def test_random_generators_go_through_files_unchanged(tmp_path):
    random.seed(1), np.random.seed(2), torch.manual_seed(3)
    random.gauss(0, 1), np.random.randn(), torch.randn(1)
    tensors, plain = checkpoint.random_state()
    checkpoint.write_tensors(tmp_path / "r.safetensors", tensors)

    def draw():
        return random.random(), random.gauss(0, 1), np.random.randn(), torch.randn(2).tolist()

    first = draw()
    draw()
    checkpoint.set_random_state(checkpoint.read_tensors(tmp_path / "r.safetensors"), json.loads(json.dumps(plain)))
    assert draw() == first


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    (tmp_path / checkpoint.STATE).write_text(json.dumps({"identity": {"base": "a", "fingerprint": "f"}}))
    checkpoint.check_identity(tmp_path, {"base": "a", "fingerprint": "f"})
    with pytest.raises(DataError, match="base differ"):
        checkpoint.check_identity(tmp_path, {"base": "b", "fingerprint": "f"})


def test_damaged_checkpoint_files_are_named(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"\x00" * 20)
    with pytest.raises(DataError, match=r"x\.safetensors"):
        checkpoint.read_tensors(tmp_path / "x.safetensors")
    (tmp_path / checkpoint.STATE).write_text("{")
    with pytest.raises(DataError, match=r"state\.json"):
        checkpoint.read_state(tmp_path)
