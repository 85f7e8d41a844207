"""The language-model head and the loss on supervised positions only.

A head over the vocabulary is a large part of a small model's work, and most positions of a prompt-completion
row are prompt. The head is called on the hidden states that predict a supervised token, and on no others.
It is the model's own module that is called, so adapters on it, soft-capping and scaling stay in force.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from tunesmith_transformers.tokens.batching import WEIGHTS
from tunesmith_transformers.tokens.example import IGNORED


@contextmanager
def selected_positions(head: nn.Module, mask: torch.Tensor) -> Iterator[list[torch.Tensor]]:
    """Let `head` see only the hidden states at `mask`; the block is given a list that these are put into.

    Args:
        head: the output embeddings; called with hidden states (B, T', H).
        mask: (B, T) bool. When T' > T the model put virtual tokens in front, and the last T count.

    Inside the block the head returns (1, N, V) for the N true positions of `mask`, row by row.
    """

    seen: list[torch.Tensor] = []

    def narrow(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden = arguments[0]  # (B, T', H)
        hidden = hidden[:, hidden.shape[1] - mask.shape[1] :]  # (B, T, H)
        seen.append(hidden[mask.to(hidden.device)])  # (N, H)
        return (seen[-1].unsqueeze(0), *arguments[1:])  # (1, N, H)

    handle = head.register_forward_pre_hook(narrow)
    try:
        yield seen
    finally:
        handle.remove()


def predicting(labels: torch.Tensor) -> torch.Tensor:
    """The positions that predict a supervised token, each the one before it: (B, T) bool for labels (B, T)."""
    wanted = torch.zeros_like(labels, dtype=torch.bool)
    wanted[:, :-1] = labels[:, 1:] != IGNORED
    return wanted


def predictions(model: Any, inputs: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What the model predicts for every supervised token, from the hidden states before it.

    Args:
        model: a causal language model of Transformers, possibly wrapped by PEFT.
        inputs: `input_ids` (B, T), `attention_mask` (B, T), `labels` (B, T) with -100 where nothing is
            predicted, and whatever else the model takes.

    Returns:
        logits (N, V) in float32, the tokens (N,), and the hidden states (N, H) that the head was given.
    """
    inputs = dict(inputs)
    labels = inputs.pop("labels")  # (B, T)
    targets = labels[:, 1:][labels[:, 1:] != IGNORED]  # (N,)
    with selected_positions(output_head(model), predicting(labels)) as seen:
        logits = model(**inputs, use_cache=False).logits  # (1, N, V)
    return logits[0].float(), targets.to(logits.device), seen[-1]


def nll(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood of tokens (N,) by logits (N, V), in nats: (N,)."""
    return nn.functional.cross_entropy(logits, targets, reduction="none")


def token_losses(
    model: Any, inputs: dict[str, Any], of: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = nll
) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss of every supervised token: its negative log-likelihood, or what `of` makes of it.

    Args:
        model, inputs: see `predictions`.
        of: from logits (N, V) and tokens (N,) to losses (N,).

    Returns:
        losses (N,) in float32, and the row index (N,) of each.
    """
    logits, targets, _ = predictions(model, inputs)
    losses = of(logits, targets)  # (N,)
    return losses, predicting(inputs["labels"]).nonzero()[:, 0]


def split_weights(inputs: dict[str, Any]) -> tuple[dict[str, Any], torch.Tensor]:
    """A batch as a model takes it, and the weight of every supervised token (N,); 1 each where the batch has none."""
    labels = inputs["labels"]
    wanted = labels[:, 1:] != IGNORED  # (B, T - 1)
    rest = {name: value for name, value in inputs.items() if name != WEIGHTS}
    if WEIGHTS not in inputs:
        return rest, torch.ones(int(wanted.sum()), device=labels.device)
    return rest, inputs[WEIGHTS][:, 1:][wanted]


def total_weight(batches: Iterable[Mapping[str, Any]]) -> torch.Tensor:
    """The sum of the weights of all supervised tokens, by which the sum of their weighted losses is divided."""
    return torch.stack([split_weights(dict(batch))[1].sum() for batch in batches]).sum()


def answer_logps(model: Any, inputs: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability of each row's supervised tokens given what comes before them.

    Args:
        model, inputs: see `token_losses`.

    Returns:
        the sum over each row's supervised tokens (B,) in float32, in nats, and their number (B,).
    """
    losses, rows = token_losses(model, inputs)  # (N,), (N,)
    return summed(-losses, rows, len(inputs["labels"])), torch.bincount(rows, minlength=len(inputs["labels"]))


def summed(values: torch.Tensor, rows: torch.Tensor, count: int) -> torch.Tensor:
    """Sum `values` (N,) over the tokens of each of `count` rows; `rows` (N,) says whose each is."""
    return values.new_zeros(count).index_add(0, rows.to(values.device), values)  # (B,)


def output_head(model: Any) -> nn.Module:
    """The module that maps hidden states to the vocabulary, below any wrapper of PEFT."""
    inner = inner_model(model)
    head = inner.get_output_embeddings()
    assert head is not None, f"{type(inner).__name__} has no output embeddings"
    return head


def inner_model(model: Any) -> Any:
    """The model of Transformers, below any wrapper of PEFT."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
