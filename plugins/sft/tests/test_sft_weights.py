"""Weights of messages and rows, turns and chunks in runs: the loss is the formula's, and the ledger counts rows."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from tunesmith import Adapted, Context, Dataset, Records
from tunesmith.context import SilentReporter
from tunesmith.testing.tiny import CHAT_TEMPLATE
from tunesmith_sft import SftSettings
from tunesmith_sft.trainer import train
from tunesmith_transformers.tokens.encoding import encode

#: The reasoning of earlier answers is left out.
REWRITING = CHAT_TEMPLATE.replace(
    "{% generation %}{{ message['content']",
    "{% generation %}{{ (message['content'] if loop.last else message['content'].split('</think>')[-1])",
)
ROWS = [
    {"prompt": "a", "completion": "bcd", "weight": 0.5},
    {"prompt": "ab", "completion": "c"},
    {"prompt": "abc", "completion": "defgh", "weight": 3.0},
    {"prompt": "b", "completion": "never", "weight": 0.0},
    {"prompt": "b", "completion": "cc"},
]
TALKS = [
    {
        "messages": [
            {"role": "user", "content": "ab"},
            {"role": "assistant", "content": "<think>q</think>c", "weight": 0.25},
            {"role": "user", "content": "d"},
            {"role": "assistant", "content": "efg"},
        ]
    },
    {"messages": [{"role": "user", "content": "ab"}, {"role": "assistant", "content": "cc"}], "weight": 2.0},
]


class Heard(SilentReporter):
    def __init__(self) -> None:
        self.losses: list[float] = []

    def progress(self, step: int, total: int, metrics: Any) -> None:
        self.losses.append(metrics["loss"])


def fit(handle: Any, folder: Any, rows: list[dict[str, Any]], kind: str, **settings: Any) -> tuple[float, Context]:
    """The loss of the first step, at a learning rate of 0, and the context that was told."""
    context = Context(device="cpu", folder=folder, stage_folder=folder, cache=folder, reporter=Heard())
    context.ledger.read(len(rows))
    handle.model.requires_grad_(True)
    data = Dataset(type=kind, train=Records(rows, [f"r:{n}" for n in range(len(rows))]))  # type: ignore[arg-type]
    train({"model": Adapted(handle)}, data, SftSettings(learning_rate=0.0, max_steps=1, **settings), context)
    return context.reporter.losses[0], context  # type: ignore[attr-defined]


def formula(handle: Any, rows: list[dict[str, Any]], kind: str, **options: Any) -> float:
    """sum(w * nll) / sum(w), example by example, with the model's own logits."""
    records = Records(rows, [f"r:{n}" for n in range(len(rows))])
    total = weight = 0.0
    handle.model.eval()
    for item in encode(records, kind, handle.tokenizer, **options):
        ids = torch.tensor([item.ids])
        with torch.no_grad():
            logps = torch.log_softmax(handle.model(ids).logits[0].double(), -1)
        for place in range(1, len(item.ids)):
            total -= item.loss_weights[place] * float(logps[place - 1, item.ids[place]])
            weight += item.loss_weights[place]
    return total / weight


@pytest.mark.parametrize(("rows", "kind"), [(ROWS, "prompt-completion"), (TALKS, "messages")])
@pytest.mark.parametrize(
    "settings",
    [{"batch_size": 8}, {"batch_size": 1, "gradient_accumulation_steps": 4}, {"batch_size": 8, "packing": True}],
)
def test_the_loss_is_the_weighted_mean(tiny_handle: Any, tmp_path: Any, rows: Any, kind: str, settings: Any) -> None:
    found, context = fit(tiny_handle, tmp_path, rows, kind, **settings)
    assert found == pytest.approx(formula(tiny_handle, rows, kind), rel=1e-5)
    kept = [row for row in rows if row.get("weight") != 0.0]
    assert context.ledger.trained == len(kept)
    assert context.ledger.expected == len(rows) - len(kept)
    plain = [{name: value for name, value in row.items() if name != "weight"} for row in kept]
    if kind == "prompt-completion":
        assert found != pytest.approx(formula(tiny_handle, plain, kind), rel=1e-3)


def test_weights_come_back_out_of_the_cache(tiny_handle: Any, tmp_path: Any) -> None:
    first = fit(tiny_handle, tmp_path, ROWS, "prompt-completion", token_cache="always")
    again = fit(tiny_handle, tmp_path, ROWS, "prompt-completion", token_cache="always")
    assert first[0] == again[0]
    assert first[1].ledger.entries == again[1].ledger.entries
    assert again[1].ledger.expected == 1


@pytest.mark.parametrize("packing", [False, True])
def test_a_row_of_several_examples_counts_once(tiny_handle: Any, tmp_path: Any, packing: bool) -> None:
    tiny_handle.tokenizer.chat_template = REWRITING
    found, context = fit(tiny_handle, tmp_path, TALKS, "messages", batch_size=8, packing=packing)
    assert found == pytest.approx(formula(tiny_handle, TALKS, "messages"), rel=1e-5)
    assert context.ledger.trained == 2
    assert (context.facts["tokens"]["rows"], context.facts["tokens"]["examples"]) == (2, 3)
    last, context = fit(tiny_handle, tmp_path, TALKS, "messages", batch_size=8, packing=packing, turns="last")
    assert last == pytest.approx(formula(tiny_handle, TALKS, "messages", turns="last"), rel=1e-5)
    assert context.facts["tokens"]["examples"] == 2


@pytest.mark.parametrize("packing", [False, True])
def test_long_text_is_trained_in_chunks(tiny_handle: Any, tmp_path: Any, packing: bool) -> None:
    rows = [{"text": "abcdefghij" * 5}, {"text": "xyz"}]
    found, context = fit(tiny_handle, tmp_path, rows, "text", batch_size=16, max_length=16, packing=packing)
    assert found == pytest.approx(formula(tiny_handle, rows, "text", max_length=16), rel=1e-5)
    assert context.facts["tokens"]["supervised_tokens"] == 50 + 3
    assert context.ledger.trained == 2
    assert not context.ledger.entries


def test_perplexity_weighs_and_counts_a_row_once(tiny_handle: Any, context: Context) -> None:
    import math

    from tunesmith_transformers.evaluation.perplexity import evaluate
    from tunesmith_transformers.training.settings import PerplexitySettings

    for rows, kind, options in ((ROWS, "prompt-completion", {}), ([{"text": "abc" * 9}], "text", {"max_length": 8})):
        data = Dataset(type=kind, train=Records([], []), validation=Records(rows, [f"r:{n}" for n in range(len(rows))]))  # type: ignore[arg-type]
        measure = evaluate(tiny_handle, data, PerplexitySettings(**options), context).measures["perplexity"]
        assert math.log(measure.value) == pytest.approx(formula(tiny_handle, rows, kind, **options), rel=1e-5)
        assert measure.n == len(set(measure.rows)) == len([row for row in rows if row.get("weight") != 0.0])


def test_a_run_of_conversations_adds_up(house: Any) -> None:
    house.rows([{**TALKS[number % 2]} for number in range(12)])
    run = house.run("trainer.max_steps=2")
    counts = run.results["main"].ledger
    assert counts["trained"] + counts["held_out"] + counts["dropped"] == counts["rows_in"]
    assert json.loads((run.folder / "state.json").read_text())["status"] == "done"


def test_an_estimate_counts_examples_and_knows_their_rows(house: Any) -> None:
    from tunesmith.plan import make_plan
    from tunesmith.recipe import read
    from tunesmith.stage import load_data
    from tunesmith.tokenized import lengths_of

    house.rows([{"text": "abcdefghij" * 5}, {"text": "xyz"}])
    sets = ("trainer.max_length=16", "data.validation=0", "evaluate=[]")
    plan = make_plan(read(house.folder / "recipe.toml", sets), house.make_registry())
    (stage,) = plan.stages
    context = Context(device="cpu", folder=house.folder, cache=house.folder / "cache")
    lengths, places = lengths_of(plan, stage, load_data(stage, context), context)
    assert lengths.tokens == [16, 16, 16, 6, 4]
    assert lengths.supervised == [15, 15, 15, 5, 3]
    assert places == [0, 0, 0, 0, 1]
