"""Weights of rows and turns of answers in preference losses, compared with the formula."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.nn.functional import logsigmoid

from tunesmith import Adapted, Context, DataError, Dataset, Ledger, Records
from tunesmith.context import SilentReporter
from tunesmith.testing.tiny import CHAT_TEMPLATE
from tunesmith_lora import LoraSettings
from tunesmith_lora.adapter import apply
from tunesmith_preference import trainer
from tunesmith_preference.settings import CpoSettings, DpoSettings, KtoSettings
from tunesmith_preference.unpaired import kto
from tunesmith_transformers.tokens.pairs import encode_pairs

ROWS = [
    {"prompt": "1+1=", "chosen": "2", "rejected": "three", "weight": 0.5},
    {"prompt": "1+2=", "chosen": "3", "rejected": "no"},
    {"prompt": "2+2=", "chosen": "4 it is", "rejected": "5", "weight": 3.0},
    {"prompt": "2+3=", "chosen": "5", "rejected": "6", "weight": 0.0},
]
BETA = 0.1


class Heard(SilentReporter):
    def __init__(self) -> None:
        self.losses: list[float] = []

    def progress(self, step: int, total: int, metrics: Any) -> None:
        self.losses.append(metrics["loss"])


@pytest.fixture
def log(tmp_path: Any) -> Context:
    return Context(device="cpu", folder=tmp_path, stage_folder=tmp_path, cache=tmp_path, reporter=Heard())


@pytest.fixture
def models(tiny_handle: Any, log: Context) -> dict[str, Adapted]:
    """A policy, and a reference that is another model."""
    from tunesmith.testing import tiny_handle as make

    policy = apply(replace(tiny_handle), LoraSettings(rank=2), log)
    other = make()
    with torch.no_grad():
        other.model.model.norm.weight.mul_(1.3)
    return {"policy": policy, "reference": Adapted(other)}


def data(rows: list[dict[str, Any]], kind: str = "preference") -> Dataset:
    return Dataset(type=kind, train=Records(rows, [str(n) for n in range(len(rows))]))  # type: ignore[arg-type]


def logp(model: Any, side: Any) -> float:
    """Log-probability of an answer by hand."""
    with torch.no_grad():
        found = torch.log_softmax(model(torch.tensor([side.ids])).logits[0].double(), -1)
    places = [place for place, wanted in enumerate(side.supervised) if wanted]
    return sum(float(found[place - 1, side.ids[place]]) for place in places)


def sides(models: dict[str, Adapted], rows: list[dict[str, Any]]) -> list[tuple[float, float, float, int]]:
    """Of each pair that weighs: its weight, log-ratio, log-probability of the chosen answer, and its tokens."""
    policy, reference = (models[name].model.eval() for name in ("policy", "reference"))
    found = []
    for pair in encode_pairs(data(rows).train, models["policy"].handle.tokenizer):
        ours = [logp(policy, side) for side in (pair.chosen, pair.rejected)]
        theirs = [logp(reference, side) for side in (pair.chosen, pair.rejected)]
        ratio = ours[0] - theirs[0] - ours[1] + theirs[1]
        found.append((pair.weight, ratio, ours[0], sum(pair.chosen.supervised)))
    return found


@pytest.mark.parametrize("split", [(4, 1), (1, 3)])
def test_pairs_count_by_their_weight(models: Any, log: Context, split: tuple[int, int]) -> None:
    found = sides(models, ROWS)
    wanted = sum(w * -float(logsigmoid(torch.tensor(BETA * r, dtype=torch.float64))) for w, r, *_ in found)
    log.ledger.read(4)
    options = {"learning_rate": 0.0, "max_steps": 1, "batch_size": split[0], "gradient_accumulation_steps": split[1]}
    trainer.dpo(models, data(ROWS), DpoSettings(**options), log)
    assert log.reporter.losses[0] == pytest.approx(wanted / 4.5, rel=1e-5)  # type: ignore[attr-defined]
    assert (log.ledger.trained, log.ledger.dropped, log.ledger.expected) == (3, 1, 1)


def test_the_likelihood_of_the_chosen_answers_counts_by_it_too(models: Any, log: Context) -> None:
    found = sides(models, ROWS)
    wanted = -sum(w * chosen for w, _, chosen, _ in found) / sum(w * tokens for w, *_, tokens in found)
    log.ledger.read(4)
    trainer.dpo(models, data(ROWS), DpoSettings(learning_rate=0.0, max_steps=1, loss_type="sft"), log)
    assert log.reporter.losses[0] == pytest.approx(wanted, rel=1e-5)  # type: ignore[attr-defined]


def test_unpaired_answers_count_by_their_weight(models: Any, log: Context) -> None:
    rows = [
        {"prompt": "1+1=", "completion": "2", "label": True, "weight": 0.25},
        {"prompt": "1+2=", "completion": "no", "label": False},
        {"prompt": "2+2=", "completion": "4", "label": True, "weight": 2.0},
    ]
    pairs = [{"prompt": row["prompt"], "chosen": row["completion"], "rejected": "?!"} for row in rows]
    policy, reference = (models[name].model.eval() for name in ("policy", "reference"))
    total = 0.0
    for row, pair in zip(rows, encode_pairs(data(pairs).train, models["policy"].handle.tokenizer), strict=True):
        ratio = logp(policy, pair.chosen) - logp(reference, pair.chosen)
        value = torch.sigmoid(torch.tensor(BETA * (ratio if row["label"] else -ratio), dtype=torch.float64))
        total += row.get("weight", 1.0) * (1 - float(value))  # type: ignore[operator]
    log.ledger.read(3)
    settings = KtoSettings(learning_rate=0.0, max_steps=1, loss_type="apo_zero_unpaired")
    kto(models, data(rows, "unpaired-preference"), settings, log)
    assert log.reporter.losses[0] == pytest.approx(total / 3.25, rel=1e-5)  # type: ignore[attr-defined]


def test_a_loss_that_sorts_a_batch_refuses_weights(models: Any, log: Context) -> None:
    log.ledger.read(4)
    with pytest.raises(DataError, match="2 of 3 rows have a weight, and loss_type aot sorts"):
        trainer.dpo(models, data(ROWS), DpoSettings(loss_type="aot"), log)


def talk(*texts: str, **more: Any) -> list[dict[str, Any]]:
    """Turns of assistant and user by turns, the assistant first."""
    return [{"role": ("assistant", "user")[n % 2], "content": text, **more} for n, text in enumerate(texts)]


def test_turns_of_the_person_in_an_answer_are_not_compared(models: Any) -> None:
    row = {
        "prompt": [{"role": "user", "content": "hi"}],
        "chosen": talk("yes", "SECRET", "ok"),
        "rejected": talk("no", "OTHER", "bad"),
    }
    tokenizer = models["policy"].handle.tokenizer
    for turns, wanted in (
        ("all", ["yes<|im_end|>ok<|im_end|>", "no<|im_end|>bad<|im_end|>"]),
        ("last", ["ok<|im_end|>", "bad<|im_end|>"]),
    ):
        (pair,) = encode_pairs(Records([row], ["r"]), tokenizer, turns=turns)
        for side, text in zip((pair.chosen, pair.rejected), wanted, strict=True):
            assert tokenizer.decode([t for t, on in zip(side.ids, side.supervised, strict=True) if on]) == text
    tokenizer.chat_template = CHAT_TEMPLATE.replace(
        "{% generation %}{{ message['content']",
        "{% generation %}{{ (message['content'] if loop.last else message['content'].split('</think>')[-1])",
    )
    row = {**row, "chosen": talk("<think>a</think>yes", "SECRET", "ok")}
    ledger = Ledger()
    (pair,) = encode_pairs(Records([row], ["r"]), tokenizer, ledger=ledger)
    assert (
        tokenizer.decode([t for t, on in zip(pair.chosen.ids, pair.chosen.supervised, strict=True) if on]) == wanted[0]
    )
    assert [entry.reason for entry in ledger.of("truncated")] == [
        "the chat template rewrites earlier turns: of the answer the last turn alone is compared"
    ]


def test_an_answer_whose_turns_weigh_unevenly_is_refused(models: Any, log: Context) -> None:
    asked = [{"role": "user", "content": "hi"}]
    row = {"prompt": asked, "chosen": talk("yes", weight=0.5), "rejected": talk("no")}
    ledger = Ledger()
    tokenizer = models["policy"].handle.tokenizer
    assert encode_pairs(Records([row], ["r"]), tokenizer, ledger=ledger) == []
    assert "neither 0 nor 1" in next(iter(ledger.reasons()))
    log.ledger.read(3)
    unpaired = [{"prompt": asked, "completion": row["chosen"], "label": True}]
    unpaired += [
        {"prompt": [{"role": "user", "content": str(n)}], "completion": talk("no"), "label": n > 0} for n in (0, 1)
    ]
    settings = KtoSettings(learning_rate=0.0, max_steps=1)
    kto(models, data(unpaired, "unpaired-preference"), settings, log.with_(max_lost_rows=0.5))
    assert "neither 0 nor 1" in next(iter(log.ledger.reasons()))


def test_losses_without_a_reference_weigh_too(models: Any, log: Context) -> None:
    policy = {"policy": models["policy"]}
    model = models["policy"].model.eval()
    total = 0.0
    for pair in encode_pairs(data(ROWS).train, models["policy"].handle.tokenizer):
        ahead = logp(model, pair.chosen) - logp(model, pair.rejected)
        total += pair.weight * -float(logsigmoid(torch.tensor(BETA * ahead, dtype=torch.float64)))
    log.ledger.read(4)
    trainer.cpo(policy, data(ROWS), CpoSettings(learning_rate=0.0, max_steps=1, cpo_alpha=0.0), log)
    assert log.reporter.losses[0] == pytest.approx(total / 4.5, rel=1e-5)  # type: ignore[attr-defined]
