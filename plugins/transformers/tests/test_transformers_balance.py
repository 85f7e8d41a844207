"""The balancing loss of a mixture of experts in updates on a model's own answers, against Transformers' own."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from tunesmith import Adapted, ModelHandle
from tunesmith_transformers.online.settings import OnlineSettings
from tunesmith_transformers.online.updates import Updater
from tunesmith_transformers.training.balance import Balance, coefficient


class Plain(Updater):
    """Learns the mean negative log-likelihood of batches."""

    def gradients(self, micros, step):
        for batch in micros:
            logits = self.adapters[0].model(input_ids=batch).logits[:, :-1]
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
            self.backward(self.adapters[0], loss / len(micros), len(micros), step)
        return {}


def test_gradients_are_those_of_transformers_own_loss(experts_folder):
    model = AutoModelForCausalLM.from_pretrained(experts_folder)
    other = AutoModelForCausalLM.from_pretrained(experts_folder, output_router_logits=True)
    ids = torch.randint(0, 256, (4, 9), generator=torch.Generator().manual_seed(1))
    adapted = Adapted(ModelHandle(model=model, tokenizer=None, source="x", digest="x"))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    settings = OnlineSettings(reward="length", max_grad_norm=0.0)
    updater = Plain([adapted], list(model.parameters()), optimizer, scheduler, settings, 1, 1)
    kept = {}
    adapted.after_step = lambda step, total: kept.update({n: p.grad.clone() for n, p in model.named_parameters()})
    metrics = updater.learn([ids[:2], ids[2:]], 1, 0)
    losses = [other(input_ids=part, labels=part) for part in (ids[:2], ids[2:])]
    (sum(found.loss for found in losses) / 2).backward()
    assert metrics["aux_loss"] == pytest.approx(float(sum(found.aux_loss for found in losses) / 2), rel=1e-5)
    for name, parameter in other.named_parameters():
        torch.testing.assert_close(kept[name], parameter.grad, rtol=1e-4, atol=1e-6)
    assert model.config.output_router_logits is False


def test_what_is_taken_without_gradients_or_under_another_head_does_not_count(experts_folder, tiny_handle):
    model = AutoModelForCausalLM.from_pretrained(experts_folder)
    ids = torch.tensor([[5, 6, 7]])
    balance = Balance(Adapted(ModelHandle(model=model, tokenizer=None, source="x", digest="x")))
    with balance.collected(), torch.no_grad():
        model(ids)
    assert balance.term() is None
    assert balance.metrics() == {}
    assert coefficient(tiny_handle.model.config) == 0
    scored = ModelHandle(model=model, tokenizer=None, source="x", digest="x", head="scalar")
    assert Balance(Adapted(scored)).weight == 0
