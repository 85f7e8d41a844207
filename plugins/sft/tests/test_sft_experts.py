"""A mixture of experts: the model's own balancing loss is in the loss, against Transformers' own with labels."""

from __future__ import annotations

import json

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from tunesmith import RecipeError
from tunesmith_transformers.tokens.batching import collate
from tunesmith_transformers.tokens.encoding import encode
from tunesmith_transformers.training.balance import weigh

STILL = (
    "data.conversational=false",
    "trainer.learning_rate=1e-9",
    "trainer.max_steps=1",
    "data.validation=0.0",
    "evaluate=[]",
)


def first(house, folder, *sets):
    run = house.run(f"model.source={json.dumps(str(folder))}", 'adapter={use="full"}', *STILL, *sets)
    return json.loads((run.folder / "metrics.jsonl").read_text().splitlines()[0]), run


def batch_of(house, folder):
    """All of the house's rows in one batch, and a model whose own loss has both terms."""
    model = AutoModelForCausalLM.from_pretrained(folder, output_router_logits=True)
    from tunesmith import Records
    from tunesmith.testing.tiny import tiny_tokenizer

    rows = [json.loads(line) for line in (house.folder / "rows.jsonl").read_text().splitlines()]
    records = Records(rows, [str(n) for n in range(len(rows))])
    return model, collate(encode(records, "prompt-completion", tiny_tokenizer()), 258)


@pytest.fixture
def plain(house):
    """The house on rows that are rendered as they are."""
    house.rows([{"prompt": f"{a}+{b}=" + "x" * a, "completion": str(a + b)} for a in range(4) for b in range(6)])
    return house


@pytest.mark.parametrize("weight", [None, 2.0, 0.0])
def test_the_loss_is_transformers_own(plain, experts_folder, weight):
    sets = [] if weight is None else [f"model.router_aux_loss_coef={weight}"]
    line, _ = first(plain, experts_folder, "trainer.batch_size=24", *sets)
    model, batch = batch_of(plain, experts_folder)
    with torch.no_grad():
        theirs = model(**batch)
    weight = 0.5 if weight is None else weight
    alone = theirs.loss - 0.5 * theirs.aux_loss
    assert float(theirs.aux_loss) > 1
    assert line["loss"] == pytest.approx(float(alone + weight * theirs.aux_loss), rel=1e-5)
    assert line.get("aux_loss") == (pytest.approx(float(theirs.aux_loss), rel=1e-5) if weight else None)


def test_accumulated_batches_bring_its_mean(plain, experts_folder):
    sets = ("trainer.batch_size=6", "trainer.gradient_accumulation_steps=4")
    line, run = first(plain, experts_folder, *sets)
    model, batch = batch_of(plain, experts_folder)
    with torch.no_grad():
        whole = model(**batch)
    alone = float(whole.loss - 0.5 * whole.aux_loss)
    assert line["loss"] == pytest.approx(alone + 0.5 * line["aux_loss"], rel=1e-5)
    assert line["aux_loss"] == pytest.approx(float(whole.aux_loss), rel=0.1)
    kept, before = (AutoConfig.from_pretrained(folder) for folder in (run.folder / "artifact", experts_folder))
    assert (kept.output_router_logits, kept.router_aux_loss_coef) == (before.output_router_logits, 0.5)


def test_a_dense_model_has_none_to_weigh(house, tiny_handle):
    with pytest.raises(RecipeError, match="llama has no loss that balances experts"):  # by the plan
        house.run("model.router_aux_loss_coef=0.1")
    with pytest.raises(RecipeError, match="LlamaForCausalLM has no loss that balances experts"):
        weigh(tiny_handle.model, 0.1)
