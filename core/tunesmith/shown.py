"""Rows as a trainer sees them, token by token, for `tunesmith data show --mask`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Token:
    """One token.

    Args:
        text: what it adds to the text; empty where a later token completes a character that it begins.
        weight: how much its prediction counts in the loss; 0 where it is only read.
        label: what a classifier shall call it.
    """

    text: str
    weight: float = 0.0
    label: str = ""


@dataclass(frozen=True)
class Shown:
    """One sequence of tokens that a row becomes.

    Args:
        row: the row's name.
        tokens: in order.
        title: which of the row's sequences it is, such as "chosen"; empty for the only one.
        label: what a classifier shall call the whole sequence.
        part: which of several examples of its row it is of, from 1; 0 where the row is one example. Sequences that are
            trained together, as the two sides of a pair, are of one part.
    """

    row: str
    tokens: Sequence[Token]
    title: str = ""
    label: str = ""
    part: int = 0

    @property
    def supervised(self) -> int:
        """Tokens that count in the loss."""
        return sum(token.weight > 0 for token in self.tokens)
