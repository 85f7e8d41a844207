"""What the trainers promise besides their losses: the start, references, adapters, rows that cannot be used."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

import tunesmith_preference
from tunesmith import Adapted, DataError, RecipeError, Records
from tunesmith.adapted import DisabledView
from tunesmith_lora import LoraSettings
from tunesmith_lora.adapter import apply
from tunesmith_preference import trainer
from tunesmith_preference.reference import Reference
from tunesmith_preference.settings import DpoSettings, KtoSettings
from tunesmith_preference.unpaired import kto
from tunesmith_transformers.tokens.pairs import encode_pairs

ROW = {"prompt": "1+1=", "chosen": "2", "rejected": "3"}


def test_the_plugin_passes_the_kit(check_plugin):
    check_plugin(tunesmith_preference)


class Log:
    """A reporter that keeps what it is told."""

    def __init__(self):
        self.metrics, self.said, self.warned = [], [], []

    def progress(self, step, total, metrics):
        if metrics:
            self.metrics.append(dict(metrics))

    def say(self, message):
        self.said.append(message)

    def warn(self, message):
        self.warned.append(message)

    def phase(self, name): ...


@pytest.fixture
def log(context):
    return context.with_(reporter=Log())


@pytest.fixture
def models(tiny_handle, log):
    policy = apply(tiny_handle, LoraSettings(rank=4, dropout=0.1), log)
    return {"policy": policy, "reference": DisabledView(policy)}


def low_rank(handle, context):
    """The same LoRA each time."""
    torch.manual_seed(0)
    return apply(replace(handle), LoraSettings(rank=2), context)


def rows(count=8):
    return [{"prompt": f"{i}+1=", "chosen": str(i + 1), "rejected": f"{i}?"} for i in range(count)]


def train(models, log, pairs, content=None, **settings):
    data = pairs(content or rows())
    log.ledger.read(len(data.train))
    settings = DpoSettings(learning_rate=0.01, batch_size=4, max_steps=2, **settings)
    return trainer.dpo(models, data, settings, log)


def test_the_loss_starts_at_log_2_and_everything_is_logged(models, log, pairs):
    before = {name: p.requires_grad for name, p in models["policy"].model.named_parameters()}
    train(models, log, pairs)
    first, second = log.reporter.metrics[:2]
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert first["rewards/margins"] == pytest.approx(0, abs=1e-6)
    assert second["rewards/margins"] > 0
    names = {"rewards/chosen", "rewards/rejected", "rewards/accuracies", "logps/chosen", "logps/rejected"}
    assert names <= set(second)
    assert log.facts["reference"]["nats_a_token_from_the_policy_at_the_start"] == 0
    assert any("dropout is off" in line for line in log.reporter.said)
    assert not log.reporter.warned
    assert log.ledger.trained == 8
    assert {name: p.requires_grad for name, p in models["policy"].model.named_parameters()} == before


@pytest.mark.parametrize("accumulation", [2, 4])
def test_batch_times_accumulation_decides_and_not_the_split(tiny_handle, log, pairs, accumulation):
    """The likelihood term too is a mean over the tokens of the whole accumulated batch."""
    losses = []
    for batch, steps in ((8, 1), (8 // accumulation, accumulation)):
        policy = low_rank(tiny_handle, log)
        log.ledger.read(8)
        settings = DpoSettings(
            loss_type=("sigmoid", "sft"), batch_size=batch, gradient_accumulation_steps=steps, max_steps=1
        )
        trainer.dpo({"policy": policy, "reference": DisabledView(policy)}, pairs(rows()), settings, log)
        losses.append(log.reporter.metrics[-1]["loss"])
        tiny_handle.model = policy.model.unload()
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


class Plain(Adapted):
    """A norm that is trained, a loss term of its own, and a list of what the trainer calls."""

    def __init__(self, handle):
        super().__init__(handle)
        self.calls = []
        self.scale = self.model.model.norm.weight
        self.scale.requires_grad_(True)

    def begin(self, total_steps):
        self.calls.append(total_steps)

    def after_step(self, step, total_steps):
        assert self.scale.grad is not None
        self.calls.append((step, total_steps))

    def extra_loss(self):
        return 3.0 + 0.0 * self.scale.sum()


def test_the_adapter_s_own_loss_and_steps_are_kept_and_a_reference_may_be_another_model(log, pairs):
    from tunesmith.testing import tiny_handle

    policy = Plain(tiny_handle())
    train({"policy": policy, "reference": Adapted(tiny_handle())}, log, pairs, precompute_reference=True)
    assert policy.calls == [2, (1, 2), (2, 2)]
    assert log.reporter.metrics[-2]["loss"] == pytest.approx(math.log(2) + 3.0, abs=1e-5)


def test_a_reference_of_its_own_that_differs_is_said(models, log, pairs):
    from tunesmith.testing import tiny_handle

    train({**models, "reference": Adapted(tiny_handle(seed=1))}, log, pairs)
    assert "does not start at its reference" in log.reporter.warned[0]


def test_a_reference_with_another_tokenizer_is_refused(models, log, pairs):
    from tunesmith.testing import tiny_handle

    other = tiny_handle()
    other.tokenizer.add_tokens(["another"])
    with pytest.raises(RecipeError, match="another tokenizer than the policy"):
        train({**models, "reference": Adapted(other)}, log, pairs)


def test_the_reference_is_kept_by_content(models, log, pairs):
    encoded = encode_pairs(Records(rows(), list("abcdefgh")), models["policy"].handle.tokenizer)
    sides = [side for pair in encoded for side in (pair.chosen, pair.rejected)]
    reference = Reference(models["reference"], models["policy"])
    values = reference.precomputed(sides, 4, log)
    folder = log.cache / "reference"
    (kept,) = folder.iterdir()
    with torch.no_grad():  # the policy moves, the reference does not
        for name, parameter in models["policy"].trainable().items():
            parameter.add_(0.1 if "lora_B" in name else 0.0)
    said = len(log.reporter.said)
    assert torch.equal(reference.precomputed(sides, 4, log), values)
    assert len(log.reporter.said) == said  # taken from the cache
    direct = torch.cat([reference._batch([side]) for side in sides])
    torch.testing.assert_close(values, direct)
    (kept / "logps.safetensors").write_bytes(b"damaged")
    assert torch.equal(reference.precomputed(sides, 4, log), values)
    reference.precomputed(sides[:4], 4, log)
    with torch.no_grad():  # another model of the same stored base
        models["policy"].model.get_base_model().model.norm.weight.mul_(1.01)
    reference.precomputed(sides, 4, log)
    assert len(list(folder.iterdir())) == 3


def test_precomputed_and_computed_references_train_alike(tiny_handle, log, pairs):
    losses = []
    for known in (False, True):
        policy = low_rank(tiny_handle, log)
        train({"policy": policy, "reference": DisabledView(policy)}, log, pairs, precompute_reference=known)
        losses.append([line["loss"] for line in log.reporter.metrics if "loss" in line][-2:])
        tiny_handle.model = policy.model.unload()
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


def test_kto_s_precomputed_reference_trains_alike(tiny_handle, log, pairs):
    content = [
        {"prompt": row["prompt"], "completion": row[side], "label": side == "chosen"}
        for row in rows()
        for side in ("chosen", "rejected")
    ]
    losses = []
    for known in (False, True):
        policy = low_rank(tiny_handle, log)
        log.ledger.read(16)
        settings = KtoSettings(learning_rate=0.01, batch_size=4, max_steps=3, precompute_reference=known)
        kto({"policy": policy, "reference": DisabledView(policy)}, pairs(content, "unpaired-preference"), settings, log)
        losses.append([line["loss"] for line in log.reporter.metrics if "loss" in line][-3:])
        tiny_handle.model = policy.model.unload()
    assert losses[0][0] == pytest.approx(0.5, abs=1e-6)
    assert losses[0] == pytest.approx(losses[1], abs=1e-6)


@pytest.mark.parametrize(
    ("labels", "prompts", "message"),
    [
        ([True] * 4, "abcd", "every row's label is true"),
        ([True, False] * 2, "aaaa", "all rows have one prompt"),
    ],
)
def test_kto_refuses_what_it_cannot_learn_from(models, log, pairs, labels, prompts, message):
    content = [
        {"prompt": prompt, "completion": str(number), "label": label}
        for number, (label, prompt) in enumerate(zip(labels, prompts, strict=True))
    ]
    log.ledger.read(4)
    with pytest.raises(DataError, match=message):
        kto(models, pairs(content, "unpaired-preference"), KtoSettings(), log)


@pytest.mark.parametrize(
    ("answers", "limit", "reason"),
    [
        (["7", "7"], None, "the same answer is wanted and unwanted"),
        (["7" * 20 + "1", "7" * 20 + "2"], 8, "wanted and unwanted are identical after the cut at max_length = 8"),
    ],
)
def test_kto_names_answers_that_are_wanted_and_unwanted(models, log, pairs, answers, limit, reason):
    content = [{"prompt": f"{n}=", "completion": str(n), "label": n % 2 == 0} for n in range(8)]
    content += [{"prompt": "q=", "completion": text, "label": not n} for n, text in enumerate(answers)]
    log.ledger.read(len(content))
    settings = KtoSettings(max_length=limit, max_steps=1)
    with pytest.raises(DataError, match="2 of 10 rows .* would be lost"):
        kto(models, pairs(content, "unpaired-preference"), settings, log)
    assert {entry.row: entry.reason for entry in log.ledger.entries if entry.fate == "dropped"} == {
        "8": reason,
        "9": reason,
    }


def test_too_many_unusable_pairs_stop_the_run(models, log, pairs):
    with pytest.raises(DataError, match="1 of 9 rows .* would be lost") as error:
        train(models, log, pairs, [*rows(), {**ROW, "rejected": "2"}])
    assert "the same tokens: 8" in str(error.value)


def test_adalora_and_task_columns_work_under_dpo(log, pairs):
    from tunesmith.testing import tiny_handle
    from tunesmith_adalora import AdaloraSettings
    from tunesmith_adalora.adapter import apply as adalora
    from tunesmith_soft_prompts.multitask import apply as multitask
    from tunesmith_soft_prompts.settings import MultitaskPromptSettings

    policy = adalora(tiny_handle(), AdaloraSettings(target_rank=1, init_rank=2, tinit=0, tfinal=1), log)
    log.ledger.read(8)
    settings = DpoSettings(learning_rate=0.01, batch_size=4, max_steps=4)
    trainer.dpo({"policy": policy, "reference": DisabledView(policy)}, pairs(rows()), settings, log)
    budget = log.facts["budget"]
    assert budget[-1][1] < budget[0][1]
    assert log.reporter.metrics[0]["loss"] > math.log(2) + 0.01  # the orthogonal term

    policy = multitask(tiny_handle(), MultitaskPromptSettings(virtual_tokens=2, tasks=("a", "b")), log)
    content = [{**row, "task": "ab"[number % 2]} for number, row in enumerate(rows())]
    before = {name: p.detach().clone() for name, p in policy.trainable().items()}
    for known in (False, True):
        train({"policy": policy, "reference": DisabledView(policy)}, log, pairs, content, precompute_reference=known)
    assert any(not torch.equal(p, before[name]) for name, p in policy.trainable().items())
