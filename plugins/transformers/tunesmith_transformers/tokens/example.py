"""One example as tokens: ids, and how much the prediction of each counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

IGNORED = -100  # the label that torch's cross-entropy leaves out
WEIGHTLESS = "every weight in it is 0: there is nothing to train on"  # as the row itself says, so no loss


class Unusable(ValueError):
    """A row that cannot be made into a training example; the text is the ledger's reason."""

    @property
    def expected(self) -> bool:
        """Whether the row says itself that it is not to be trained on (`Ledger.drop`)."""
        return str(self) == WEIGHTLESS


class Tokens(NamedTuple):
    """Ids, length T, and the weight of each one's prediction in the loss, length T; 0 where none is made."""

    ids: list[int]
    weights: list[float]

    @property
    def supervised(self) -> list[bool]:
        """For each token whether it is to be predicted, length T."""
        return [weight > 0 for weight in self.weights]


@dataclass(frozen=True)
class Encoded:
    """One example: a row as tokens, or a part of one.

    Args:
        row: the row's name.
        ids: token ids, length T.
        supervised: for each token whether it is to be predicted, length T; never the first.
        columns: what the model takes for this row besides its tokens, by name.
        weights: of each token's prediction in the loss, length T, 0 where none is made; empty where all weigh 1.
        part: which of several examples of its row, from 1; 0 where the row is one example.
    """

    row: str
    ids: tuple[int, ...]
    supervised: tuple[bool, ...]
    columns: Mapping[str, int] = field(default_factory=dict)
    weights: tuple[float, ...] = ()
    part: int = 0

    @property
    def labels(self) -> list[int]:
        """The ids with -100 where nothing is to be predicted, length T."""
        return [token if wanted else IGNORED for token, wanted in zip(self.ids, self.supervised, strict=True)]

    @property
    def name(self) -> str:
        """The row's name, and which part of it this is where there are several: `rows.jsonl:3#2`."""
        return f"{self.row}#{self.part}" if self.part else self.row

    @property
    def loss_weights(self) -> tuple[float, ...]:
        """The weight of each token, length T, also where all weigh 1."""
        return self.weights or tuple(map(float, self.supervised))


def example(row: str, tokens: Tokens, columns: Mapping[str, int] | None = None, part: int = 0) -> Encoded:
    """An example out of its tokens; weights are kept where one is neither 0 nor 1."""
    plain = all(weight in (0.0, 1.0) for weight in tokens.weights)
    weights = () if plain else tuple(tokens.weights)
    return Encoded(row, tuple(tokens.ids), tuple(tokens.supervised), columns or {}, weights, part)


def weight_of(thing: Mapping[str, Any], what: str = "its") -> float:
    """The weight that a row or a message gives itself, 1 where it gives none.

    Args:
        what: whose weight, for the reason.

    Raises:
        Unusable: it is no finite number of at least 0.
    """
    value = thing.get("weight")
    if value is None:
        return 1.0
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
        raise Unusable(f"{what} weight is no number of at least 0")
    return float(value)
