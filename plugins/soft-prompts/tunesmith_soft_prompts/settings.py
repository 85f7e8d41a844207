"""Settings of the four adapters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from tunesmith import Gt, Interval, MinLen, Settings


@dataclass(frozen=True, kw_only=True)
class PromptSettings(Settings):
    """Trained vectors in the place of the embeddings of the first tokens."""

    virtual_tokens: Annotated[int, Gt(0)] = 20
    """Trained vectors in front of every row; they take part of the model's context."""
    init: Literal["vocabulary", "text", "random"] = "vocabulary"
    """Start from embeddings of random tokens, from those of init_text, or from noise on the embeddings' scale."""
    init_text: Annotated[str, MinLen(1)] | None = None
    """The text of init = "text"; repeated or cut to virtual_tokens."""


@dataclass(frozen=True, kw_only=True)
class MultitaskPromptSettings(PromptSettings):
    """One prompt that all tasks share, times a low-rank matrix of each task's own."""

    tasks: Annotated[tuple[str, ...], MinLen(1)]
    """The names of the tasks, as the rows have them; an artifact keeps their order."""
    task_column: Annotated[str, MinLen(1)] = "task"
    """The column of a row that names its task; `keep` in [data] must carry it."""
    rank: Annotated[int, Gt(0)] = 1
    """Rank of each task's matrix."""


@dataclass(frozen=True, kw_only=True)
class PrefixSettings(Settings):
    """Trained keys and values in front of every attention layer."""

    virtual_tokens: Annotated[int, Gt(0)] = 20
    """Trained keys and values in front of every row, a layer; they take part of the model's context."""
    init: Literal["zero", "text", "random"] = "zero"
    """Start from zeros, from the keys and values that init_text has in the model, or from noise."""
    init_text: Annotated[str, MinLen(1)] | None = None
    """The text of init = "text"; repeated or cut to virtual_tokens."""
    projection: bool = False
    """Compute the prefix by a two-layer network (tanh) from smaller vectors while training."""
    projection_size: Annotated[int, Gt(0)] | None = None
    """Inner size of that network; None takes the model's hidden size."""


@dataclass(frozen=True, kw_only=True)
class PTuningSettings(Settings):
    """Virtual tokens that a trained encoder produces."""

    virtual_tokens: Annotated[int, Gt(0)] = 20
    """Vectors in front of every row; they take part of the model's context."""
    encoder: Literal["mlp", "lstm"] = "mlp"
    """A network of three linear layers for each token, or a two-way LSTM over the tokens and two linear layers."""
    encoder_size: Annotated[int, Gt(0)] | None = None
    """Inner size of the encoder; None takes the model's hidden size."""
    lstm_layers: Annotated[int, Gt(0)] = 2
    """Layers of the LSTM."""
    lstm_dropout: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    """Share of the values between two layers of the LSTM that is zeroed while training."""
