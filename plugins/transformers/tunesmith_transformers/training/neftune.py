"""NEFTune: noise on the embeddings while training, Jain et al. 2023 (arXiv 2310.05914)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from tunesmith_transformers.training.losses import inner_model


@contextmanager
def noisy_embeddings(model: Any, inputs: Mapping[str, torch.Tensor], alpha: float | None) -> Iterator[None]:
    """Add noise to what the embedding gives while the block runs; none in evaluation, or without `alpha`.

    Each value gets noise drawn evenly from -a to a with a = alpha / sqrt(L d), for a row of L tokens and embeddings of
    d values. L is the row's own length, whatever it is padded to or packed with. The noise is drawn from torch's own
    generator, so that a resumed run draws the same.

    Args:
        model: a language model of Transformers, possibly wrapped by PEFT.
        inputs: a batch: `input_ids` (B, T), and `attention_mask` or `position_ids` (B, T), which tell the lengths.
    """
    if not alpha or not model.training:
        yield
        return
    lengths = row_lengths(inputs)  # (B, T)

    def disturb(module: Any, arguments: Any, output: torch.Tensor) -> torch.Tensor:
        bound = alpha / (lengths.to(output.device, torch.float32) * output.shape[-1]).sqrt()  # (B, T)
        noise = torch.empty_like(output).uniform_(-1, 1)  # (B, T, d)
        return output + noise * bound[..., None].to(output.dtype)

    handle = inner_model(model).get_input_embeddings().register_forward_hook(disturb)
    try:
        yield
    finally:
        handle.remove()


def row_lengths(inputs: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """For each token the length of the row that it belongs to (B, T); packed rows count from position 0."""
    ids = inputs["input_ids"]  # (B, T)
    if (positions := inputs.get("position_ids")) is not None:
        rows = (positions == 0).cumsum(dim=1) - 1  # (B, T), the place of the row in its sequence
        counts = torch.zeros_like(ids).scatter_add(1, rows, torch.ones_like(ids))
        return counts.gather(1, rows)
    mask = inputs.get("attention_mask")
    counts = mask.sum(dim=1, keepdim=True) if mask is not None else torch.full_like(ids[:, :1], ids.shape[1])
    return counts.clamp(min=1).expand_as(ids)
