"""Head and loss on supervised positions only: the same numbers as over all positions."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from tunesmith_transformers.tokens.batching import EpochSampler, by_length, collate
from tunesmith_transformers.tokens.encoding import Encoded
from tunesmith_transformers.training.losses import output_head, token_losses

ROWS = [
    Encoded("a", (5, 6, 7, 8, 9), (False, False, True, False, True)),
    Encoded("b", (9, 8, 7), (False, True, True)),
    Encoded("c", (3, 4, 5, 6), (False, False, False, True)),
]


def dense_losses(model, inputs):
    logits = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
    return cross_entropy(
        logits[:, :-1].flatten(0, 1).float(), inputs["labels"][:, 1:].flatten(), reduction="none", ignore_index=-100
    ).view(len(logits), -1)


def test_losses_equal_those_over_all_positions(tiny_model):
    inputs = collate(ROWS, pad_token_id=258)
    losses, rows = token_losses(tiny_model, inputs)
    dense = dense_losses(tiny_model, inputs)
    for index, row in enumerate(ROWS):
        assert (rows == index).sum() == sum(row.supervised)
        assert losses[rows == index].sum().item() == pytest.approx(dense[index].sum().item(), rel=1e-5)


def test_gradients_equal_those_over_all_positions(tiny_handle):
    model = tiny_handle.model
    inputs = collate(ROWS, pad_token_id=258)
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    token_losses(model, inputs)[0].sum().backward()
    ours = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    dense_losses(model, inputs).sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(ours[name], parameter.grad, rtol=1e-4, atol=1e-5)


def test_virtual_tokens_in_front_do_not_shift_the_positions(tiny_handle):
    peft = pytest.importorskip("peft")
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    model = peft.get_peft_model(tiny_handle.model, config).eval()
    inputs = collate(ROWS, pad_token_id=258)
    losses, _ = token_losses(model, inputs)
    logits = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits[:, 4:]
    dense = cross_entropy(
        logits[:, :-1].flatten(0, 1).float(), inputs["labels"][:, 1:].flatten(), reduction="none", ignore_index=-100
    )
    assert losses.sum().item() == pytest.approx(dense.sum().item(), rel=1e-5)


def test_an_adapter_on_the_head_counts(tiny_handle):
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(target_modules=["lm_head"], init_lora_weights=False)
    model = peft.get_peft_model(tiny_handle.model, config).eval()
    inputs = collate(ROWS, pad_token_id=258)
    assert output_head(model) is model.get_base_model().lm_head
    torch.testing.assert_close(token_losses(model, inputs)[0].sum(), dense_losses(model, inputs).sum())
    with model.disable_adapter():
        torch.testing.assert_close(token_losses(model, inputs)[0].sum(), dense_losses(model, inputs).sum())


def test_the_hook_is_gone_afterwards(tiny_model):
    inputs = collate(ROWS, pad_token_id=258)
    token_losses(tiny_model, inputs)
    assert tiny_model(input_ids=inputs["input_ids"]).logits.shape == (3, 5, 259)


def test_collate_pads_on_either_side():
    right = collate(ROWS[1:], pad_token_id=0)
    assert right["input_ids"].tolist() == [[9, 8, 7, 0], [3, 4, 5, 6]]
    assert right["labels"].tolist() == [[-100, 8, 7, -100], [-100, -100, -100, 6]]
    left = collate(ROWS[1:], pad_token_id=0, side="left")
    assert left["input_ids"].tolist() == [[0, 9, 8, 7], [3, 4, 5, 6]]
    assert left["attention_mask"].tolist() == [[0, 1, 1, 1], [1, 1, 1, 1]]


def test_batches_of_like_length_hold_every_row_once():
    lengths = [3, 9, 1, 9, 4, 7, 2]
    batches = by_length(lengths, 3)
    assert sorted(index for batch in batches for index in batch) == list(range(7))
    assert [lengths[index] for batch in batches for index in batch] == sorted(lengths, reverse=True)


@pytest.mark.parametrize("grouped", [True, False])
def test_the_order_depends_on_seed_and_epoch_alone(grouped):
    lengths = [(7 * i) % 50 + 1 for i in range(203)]
    sampler = EpochSampler(lengths, 4, seed=1, grouped=grouped)
    first = list(sampler)
    torch.manual_seed(99)
    assert list(sampler) == first
    sampler.set_epoch(1)
    second = list(sampler)
    assert second != first
    assert sorted(first) == sorted(second) == list(range(203))
    assert list(EpochSampler(lengths, 4, seed=2, grouped=grouped)) != first
    sampler.set_epoch(0)
    assert list(sampler) == first


def test_grouping_saves_padding():
    lengths = [(7 * i) % 50 + 1 for i in range(200)]

    def padded(order):
        batches = [order[i : i + 4] for i in range(0, len(order), 4)]
        return sum(len(batch) * max(lengths[i] for i in batch) for batch in batches)

    grouped = padded(list(EpochSampler(lengths, 4, seed=1, grouped=True)))
    assert sum(lengths) <= grouped < 1.1 * sum(lengths)
    assert padded(list(EpochSampler(lengths, 4, seed=1, grouped=False))) > 1.3 * sum(lengths)


def test_the_first_batch_holds_the_longest_row():
    lengths = [(7 * i) % 50 + 1 for i in range(203)]
    order = list(EpochSampler(lengths, 4, seed=3, grouped=True))
    assert lengths[order[0]] == max(lengths)
