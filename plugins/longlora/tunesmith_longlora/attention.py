"""Shifted sparse attention, S2-Attn (Chen et al. 2023, arXiv 2309.12307, section 3.2 and algorithm 1).

The tokens of a row are parted into groups of G, and a token attends to what comes before it in its own group. In the
second half of the heads the groups are shifted by half a group, so that what one half cannot see the other passes on:

    unshifted heads   | 0 ... G | G ... 2G | 2G ... 3G | ...
    shifted heads     | 0 ......... 1.5 G | 1.5 G ... 2.5 G | ...

Algorithm 1 rolls the shifted heads by half a group, so that the first half-group lands behind the last one and would
attend to it, which is the row's future. Here it stays where it is and joins the group that follows it. So nothing is
seen ahead of time; what a token sees depends neither on the tokens behind it nor on padding; and a row that is no
longer than a group gets full attention.

Attention is computed group by group with groups as rows of a batch: time and memory are those of N / G short rows, and
no mask over N x N is ever made.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask


def register(group_size: int) -> str:
    """Make the attention with groups of `group_size` tokens known to Transformers; returns its name there."""
    name = f"shifted-sparse-{group_size}"
    AttentionInterface.register(name, partial(attention, group_size=group_size))
    AttentionMaskInterface.register(name, sdpa_mask)
    return name


def attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    group_size: int,
    dropout: float = 0.0,
    scaling: float | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attention as Transformers calls it: shifted and sparse where the mask is an order of tokens, else full.

    Args:
        query: (B, H, N, D). key, value: (B, K, N, D), with K heads that each serve H / K of the query's.
        attention_mask: what `carrier.Carrier` makes of the batch's mask: (B, 1, N, 1) int64, the order that puts each
            row's tokens first, or no elements where they are first already. Any other mask means full attention.

    Returns:
        (B, N, H, D), and no weights.
    """
    if attention_mask is None or attention_mask.dtype != torch.int64:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
    order = attention_mask if attention_mask.numel() else None
    if order is not None:
        query, key, value = (torch.take_along_dim(x, order, dim=2) for x in (query, key, value))
    found = shifted_sparse(query, key, value, group_size, dropout=dropout, scaling=scaling)  # (B, H, N, D)
    if order is not None:
        found = torch.take_along_dim(found, order.argsort(dim=2), dim=2)
    return found.transpose(1, 2).contiguous(), None


def shifted_sparse(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    group_size: int,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
) -> torch.Tensor:
    """Causal attention in groups, shifted by half a group in the second half of the heads.

    Padding behind a row's tokens needs no mask: no token attends to what comes later.

    Args:
        query: (B, H, N, D). key, value: (B, K, N, D); K divides H.
        group_size: tokens of a group, G; even.

    Returns:
        (B, H, N, D)
    """
    heads, shared = query.shape[1], query.shape[1] // key.shape[1]
    unshifted = heads // 2
    if unshifted % shared or not _shares_keys(query):  # or the halves part the heads that one key serves
        key, value = key.repeat_interleave(shared, dim=1), value.repeat_interleave(shared, dim=1)  # (B, H, N, D)
        shared = 1
    attend = partial(_grouped, size=group_size, dropout_p=dropout, scale=scaling, enable_gqa=shared > 1)
    # split and not slices: the gradient of each slice would be as large as the whole
    parts = [
        x.split([unshifted // n, (heads - unshifted) // n], dim=1)
        for x, n in ((query, 1), (key, shared), (value, shared))
    ]
    plain, shifted = zip(*parts, strict=True)
    return torch.cat([attend(*plain, first=0), attend(*shifted, first=group_size + group_size // 2)], dim=1)


def _shares_keys(query: torch.Tensor) -> bool:
    """Whether a fast kernel takes fewer heads of keys than of queries here; elsewhere torch falls back to G x G."""
    kind = query.device.type
    return kind == "cpu" or (kind == "cuda" and query.dtype in (torch.float16, torch.bfloat16))


def _grouped(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, first: int, size: int, **options: Any
) -> torch.Tensor:
    """Causal attention in one group of `first` tokens, then in groups of `size`, the last one as long as it is.

    Returns:
        (B, H, N, D)
    """
    if not query.shape[1]:  # half of one head
        return query.new_empty(*query.shape[:3], value.shape[-1])
    length = query.shape[2]
    first = min(first, length)
    whole, rest = divmod(length - first, size)
    sizes = [first, whole * size, rest]
    parts = []
    for groups, *tokens in zip((1, whole, 1), *(x.split(sizes, dim=2) for x in (query, key, value)), strict=True):
        if tokens[0].shape[2]:
            folded = (_fold(x, groups) for x in tokens)
            parts.append(_unfold(scaled_dot_product_attention(*folded, is_causal=True, **options), groups))
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=2)


def _fold(x: torch.Tensor, groups: int) -> torch.Tensor:
    """(B, H, groups G, D) to (B groups, H, G, D)."""
    return x if groups == 1 else x.unflatten(2, (groups, -1)).transpose(1, 2).flatten(0, 1)


def _unfold(x: torch.Tensor, groups: int) -> torch.Tensor:
    """(B groups, H, G, D) to (B, H, groups G, D)."""
    return x if groups == 1 else x.unflatten(0, (-1, groups)).transpose(1, 2).flatten(2, 3)
