"""A whole run: a model of 32 positions, tuned on rows four times as long."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tunesmith import Context
from tunesmith.artifact import load_artifact

ADAPTER = 'adapter={use="longlora",scale=4,rank=4,dropout=0.1}'
LETTERS = "abcdefghijklmnopqrstuvwxyz"


@pytest.fixture
def long(house: Any, tiny_folder: Path) -> Any:
    """The house with a model of 32 positions, whose head shares its embeddings, and rows of up to 120 tokens."""
    model = house.folder / "short"
    shutil.copytree(tiny_folder, model)
    config = AutoConfig.from_pretrained(model, max_position_embeddings=32, tie_word_embeddings=True)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(model)
    house.rows([{"text": (LETTERS[n % 9 :] + LETTERS) * 2 + LETTERS[: n % 17]} for n in range(24)])
    recipe = house.folder / "recipe.toml"
    recipe.write_text(recipe.read_text().replace(json.dumps(str(tiny_folder)), json.dumps(str(model))))
    return house


def weights(run: Path) -> bytes:
    return (run / "artifact" / "adapter_model.safetensors").read_bytes()


def test_a_model_is_tuned_at_four_times_its_length_and_resumes_to_the_same_bits(long: Any) -> None:
    run = long.run(ADAPTER)
    result = run.results["main"]
    assert result.ledger["truncated"] == 0
    assert result.facts["tokens"]["tokens"] / result.facts["tokens"]["rows"] > 90
    before, after = (side["measures"]["perplexity"]["value"] for side in (result.before, result.after))
    assert after < 0.8 * before
    config = json.loads((run.folder / "artifact" / "longlora_config.json").read_text())
    assert (config["group_size"], config["max_position_embeddings"]) == (32, 128)

    first, second = (
        load_artifact(run.folder / "artifact", long.make_registry(), Context(device="cpu", folder=long.folder))
        for _ in range(2)
    )
    ids = torch.arange(3, 103).view(1, -1)
    assert torch.equal(first.model(ids).logits, second.model(ids).logits)
    assert first.handle.max_length == 128

    part = long.stopped(3, ADAPTER)
    long.resume(part)
    assert weights(part) == weights(run.folder)
