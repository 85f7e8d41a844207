"""Shifted sparse attention against a naive reference, token by token, and what it must never do."""

from __future__ import annotations

import math

import pytest
import torch
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from tunesmith_longlora import attention as module
from tunesmith_longlora.attention import attention, shifted_sparse
from tunesmith_longlora.carrier import TOKENS_FIRST, order_of

D = 8
#: Heads of the query and of the keys; with 9 and 3 the halves part heads that one key serves.
HEADS = [(4, 4), (4, 2), (4, 1), (9, 3), (3, 3), (1, 1)]


def tensors(length, heads=4, keys=2, batch=2):
    """query (B, H, N, D), key and value (B, K, N, D), of random numbers that are the same in every call."""
    generator = torch.Generator().manual_seed(length)
    return [torch.randn(batch, count, length, D, generator=generator) for count in (heads, keys, keys)]


def group_of(position, shifted, size):
    """The number of the group that a token is in."""
    if not shifted:
        return position // size
    return max(0, (position - size // 2) // size)


def naive(query, key, value, size):
    """Each token's softmax over the tokens before it in its group, with no tensor operation over tokens."""
    batch, heads, length, _ = query.shape
    found = torch.zeros(batch, heads, length, D)
    for row in range(batch):
        for head in range(heads):
            shared = head // (heads // key.shape[1])
            shifted = head >= heads // 2
            for i in range(length):
                seen = [j for j in range(i + 1) if group_of(j, shifted, size) == group_of(i, shifted, size)]
                scores = [float(query[row, head, i] @ key[row, shared, j]) / math.sqrt(D) for j in seen]
                weights = torch.tensor(scores).softmax(0)
                found[row, head, i] = sum(w * value[row, shared, j] for w, j in zip(weights, seen, strict=True))
    return found


@pytest.mark.parametrize(("heads", "keys"), HEADS)
def test_every_token_sees_its_group_and_nothing_else(heads, keys):
    query, key, value = tensors(11, heads, keys, batch=1)
    torch.testing.assert_close(shifted_sparse(query, key, value, 4), naive(query, key, value, 4), rtol=0, atol=1e-5)


@pytest.mark.parametrize("length", [1, 3, 4, 5, 6, 7, 12, 16, 17])
def test_no_length_need_be_a_multiple_of_the_group(length):
    query, key, value = tensors(length, 2, 2, batch=1)
    torch.testing.assert_close(shifted_sparse(query, key, value, 4), naive(query, key, value, 4), rtol=0, atol=1e-5)


def test_repeated_keys_and_shared_keys_are_the_same(monkeypatch):
    query, key, value = tensors(21)
    shared = shifted_sparse(query, key, value, 4)
    monkeypatch.setattr(module, "_shares_keys", lambda query: False)
    torch.testing.assert_close(shifted_sparse(query, key, value, 4), shared, rtol=0, atol=1e-6)


@pytest.mark.parametrize("length", [1, 7, 12])
@pytest.mark.parametrize(("heads", "keys"), HEADS)
def test_a_group_as_long_as_the_sequence_is_full_attention(heads, keys, length):
    query, key, value = tensors(length, heads, keys)
    holder = torch.nn.Module()
    holder.num_key_value_groups, holder.is_causal = heads // keys, True
    full, _ = sdpa_attention_forward(holder, query, key, value, None)  # (B, N, H, D)
    ours, _ = attention(holder, query, key, value, torch.empty(TOKENS_FIRST, dtype=torch.int64), group_size=12)
    torch.testing.assert_close(ours, full, rtol=0, atol=1e-5)


def test_the_halves_differ_by_half_a_group():
    """Token 4 is the first of its group in unshifted heads, and the fifth of six in shifted ones."""
    query, key, value = (x.requires_grad_() for x in tensors(12, 4, 4, batch=1))
    found = shifted_sparse(query, key, value, 4)
    seen = [torch.autograd.grad(found[0, head, 4].sum(), value, retain_graph=True)[0][0, head] for head in range(4)]
    tokens = [weight.abs().sum(-1).nonzero().flatten().tolist() for weight in seen]
    assert tokens == [[4], [4], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4]]
    last = torch.autograd.grad(found[0, 3, 11].sum(), value)[0][0, 3].abs().sum(-1).nonzero().flatten().tolist()
    assert last == [10, 11]  # the first half-group is not behind the last one


def test_no_token_sees_a_later_one():
    query, key, value = (x.requires_grad_() for x in tensors(13, batch=1))
    found = shifted_sparse(query, key, value, 4)
    for position in range(13):
        gradients = torch.autograd.grad(found[:, :, position].sum(), (query, key, value), retain_graph=True)
        assert not any(gradient[:, :, position + 1 :].any() for gradient in gradients)


def test_what_a_token_sees_does_not_depend_on_how_long_the_row_goes_on():
    query, key, value = tensors(19)
    whole = shifted_sparse(query, key, value, 4)
    for length in (1, 4, 5, 6, 9, 14):
        part = shifted_sparse(query[:, :, :length], key[:, :, :length], value[:, :, :length], 4)
        torch.testing.assert_close(part, whole[:, :, :length], rtol=0, atol=1e-6)


@pytest.mark.parametrize("rows", [((0, 9), (0, 5)), ((0, 9), (4, 9)), ((2, 7), (1, 6))], ids=["right", "left", "both"])
def test_padding_on_either_side_changes_nothing(rows):
    query, key, value = tensors(9)
    mask = torch.tensor([[start <= i < stop for i in range(9)] for start, stop in rows])
    order = order_of(mask, None, mask)
    found, _ = attention(torch.nn.Module(), query, key, value, order, group_size=4)  # (B, N, H, D)
    assert torch.isfinite(found).all()
    for row, (start, stop) in enumerate(rows):
        alone = [x[row : row + 1, :, start:stop] for x in (query, key, value)]
        expected = shifted_sparse(*alone, 4).transpose(1, 2)[0]
        torch.testing.assert_close(found[row, start:stop], expected, rtol=0, atol=1e-6)


def test_a_hole_in_a_row_is_stepped_over():
    query, key, value = tensors(9, batch=1)
    mask = torch.tensor([[1, 1, 0, 0, 1, 1, 1, 0, 1]])
    found, _ = attention(torch.nn.Module(), query, key, value, order_of(mask, None, mask), group_size=4)
    alone = [x[:, :, mask[0].bool()] for x in (query, key, value)]
    expected = shifted_sparse(*alone, 4).transpose(1, 2)
    torch.testing.assert_close(found[:, mask[0].bool()], expected, rtol=0, atol=1e-6)


def test_no_call_is_over_more_tokens_than_a_group_and_a_half(monkeypatch):
    sizes = []

    def spy(query, key, value, **options):
        assert "attn_mask" not in options
        sizes.append(key.shape[2])
        return real(query, key, value, **options)

    real = module.scaled_dot_product_attention
    monkeypatch.setattr(module, "scaled_dot_product_attention", spy)
    shifted_sparse(*tensors(64), 8)
    assert max(sizes) == 12
    assert len(sizes) <= 5
