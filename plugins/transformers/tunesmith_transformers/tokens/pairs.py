"""Pairs of answers to one prompt, a chosen and a rejected one, as tokens."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from tunesmith import Column, Context, DataError, Ledger, Measure, ModelHandle, Records
from tunesmith.stats import bootstrap_grouped
from tunesmith_transformers.tokens.batching import collate
from tunesmith_transformers.tokens.contract import contract
from tunesmith_transformers.tokens.cutting import fitted
from tunesmith_transformers.tokens.encoding import LAST_ALONE, column_values, one_sequence, tokens_cut
from tunesmith_transformers.tokens.example import WEIGHTLESS, Encoded, Tokens, Unusable, example, weight_of
from tunesmith_transformers.tokens.rendering import extras

UNEVEN = "a message's weight is neither 0 nor 1, and an answer is compared as a whole"
MARGIN = "margin"  # a row's column: how much better the chosen answer is, in the scores' unit


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt.

    Args:
        chosen, rejected: the prompt with each answer; the answer's tokens are supervised.
        margin: how much better the chosen one is, or None where the data does not say.
        weight: how much the pair counts in the loss.
    """

    row: str
    chosen: Encoded
    rejected: Encoded
    margin: float | None = None
    weight: float = 1.0

    @property
    def prompt(self) -> tuple[int, ...]:
        """The tokens before the answers."""
        return self.chosen.ids[: self.chosen.supervised.index(True)]

    @property
    def length(self) -> int:
        """Tokens of the longer one."""
        return max(len(self.chosen.ids), len(self.rejected.ids))


def encode_pairs(
    records: Records,
    tokenizer: Any,
    *,
    max_length: int | None = None,
    overlong: str = "truncate",
    turns: str = "all",
    ledger: Ledger | None = None,
    columns: Mapping[str, Column] | None = None,
) -> list[Pair]:
    """Encode rows of type preference; what cannot be used goes to the ledger.

    Args:
        max_length: longest prompt with an answer, in tokens.
        overlong: `truncate` cuts at the end, `drop` leaves the row out.
        turns: of an answer of several, `all` turns of the assistant or the `last` alone. Where the template rewrites
            earlier turns, so that they stand in no sequence with the last one, it is that one alone.
        ledger: where dropped and truncated rows are written; None counts nothing.
        columns: what the model takes besides tokens (`ModelHandle.columns`).

    Raises:
        DataError: the rows need a chat template and the tokenizer has none, or lack what a column reads.
    """
    ledger = ledger or Ledger()
    pairs = []
    for name, row in records:
        try:
            weight = weight_of(row)
            if not weight:
                raise Unusable(WEIGHTLESS)
            sides, alone = _sides(row, tokenizer, turns)
            if sides[0].ids == sides[1].ids:
                raise Unusable("chosen and rejected are the same tokens")
            cut = [fitted(side, max_length, overlong) for side in sides]
            if cut[0].ids == cut[1].ids:
                raise Unusable(f"chosen and rejected are identical after the cut at max_length = {max_length}")
            margin = margin_of(row)
        except Unusable as error:
            ledger.drop(name, str(error), expected=error.expected)
            continue
        lost = sum(len(whole.ids) - len(short.ids) for short, whole in zip(cut, sides, strict=True))
        if alone or lost:
            reason = LAST_ALONE if alone else f"cut at max_length = {max_length}"
            ledger.truncate(name, reason, tokens_cut(lost) if lost else "", tokens=lost)
        values = column_values(row, columns or {})
        chosen, rejected = (example(name, side, values) for side in cut)
        pairs.append(Pair(name, chosen, rejected, margin, weight))
    return pairs


def check_pairs(pairs: Sequence[Pair], tokenizer: Any, context: Context) -> None:
    """Refuse what cannot be trained on; put the figures of the rest into the ledger and the facts, and say them.

    Raises:
        DataError: too many rows are lost, or the token contract is broken.
    """
    context.check_rows()
    facts = contract([side for pair in pairs for side in (pair.chosen, pair.rejected)], tokenizer)
    context.facts["tokens"] = {**facts, "rows": len(pairs)}
    context.ledger.trained = len(pairs)
    context.reporter.say(
        f"{len(pairs)} pairs, {facts['tokens']} tokens, {facts['supervised_share']:.1%} of them in answers"
    )


def held_out_pairs(records: Records, handle: ModelHandle, max_length: int | None, context: Context) -> list[Pair]:
    """Held-out pairs that an evaluator can measure; says which it cannot.

    Args:
        max_length: longest prompt with an answer, in tokens; the model's own limit holds too.

    Raises:
        DataError: there are none.
    """
    limit = min(filter(None, (max_length, handle.max_length)), default=None)
    left_out = Ledger()
    pairs = encode_pairs(records, handle.tokenizer, max_length=limit, ledger=left_out, columns=handle.columns)
    if not pairs:
        raise DataError(
            f"none of the {len(records)} held-out pairs can be measured",
            details=left_out.examples(),
            fix="Mend these rows, or hold out others in [data].",
        )
    if left_out.dropped:
        context.reporter.warn(f"{left_out.dropped} held-out pairs are not measured ({'; '.join(left_out.examples())})")
    return pairs


def collate_pairs(pairs: Sequence[Pair], pad_token_id: int) -> dict[str, torch.Tensor]:
    """Pad pairs to the longest of all answers: the chosen ones first, then the rejected ones in the same order.

    Returns:
        `input_ids`, `attention_mask`, `labels`, each (2B, T), and the rows' columns, each (2B,).
    """
    return collate([pair.chosen for pair in pairs] + [pair.rejected for pair in pairs], pad_token_id)


def mean_over_pairs(
    values: Sequence[float], pairs: Sequence[Pair], better: Literal["higher", "lower"], seed: int
) -> Measure:
    """The mean of one value a pair; its interval is over prompts, whose pairs are drawn together."""
    places: dict[tuple[int, ...], str] = {}
    groups = [places.setdefault(pair.prompt, str(len(places))) for pair in pairs]
    value, low, high = bootstrap_grouped(values, groups, seed=seed)
    return Measure(
        value=value,
        low=low,
        high=high,
        n=len(values),
        better=better,
        per_row=tuple(values),
        rows=tuple(pair.row for pair in pairs),
        groups=tuple(groups),
    )


def pair_weights(pairs: Sequence[Pair]) -> torch.Tensor:
    """How much each pair counts in the loss (B,)."""
    return torch.tensor([pair.weight for pair in pairs], dtype=torch.float32)


def margins(pairs: Sequence[Pair]) -> torch.Tensor:
    """The margin of each pair (B,).

    Raises:
        DataError: a pair has none.
    """
    lacking = [pair.row for pair in pairs if pair.margin is None]
    if lacking:
        raise DataError(
            f"{len(lacking)} of {len(pairs)} rows have no margin",
            details=lacking[:5],
            fix=f'Give rankings with scores, or a column `{MARGIN}` that [data] keeps: keep = ["{MARGIN}"].',
        )
    return torch.tensor([pair.margin for pair in pairs], dtype=torch.float32)


def _sides(row: Mapping[str, Any], tokenizer: Any, turns: str) -> tuple[list[Tokens], bool]:
    """The prompt with each answer, and whether their last turns had to be taken alone."""
    found = [_answer(row, side, tokenizer, turns) for side in ("chosen", "rejected")]
    alone = any(last for _, last in found)
    if alone:
        found = [_answer(row, side, tokenizer, "last") for side in ("chosen", "rejected")]
    for side, _ in found:
        if not set(side.weights) <= {0.0, 1.0}:
            raise Unusable(UNEVEN)
    return [side for side, _ in found], alone


def _answer(row: Mapping[str, Any], side: str, tokenizer: Any, turns: str) -> tuple[Tokens, bool]:
    """The prompt with one answer, and whether its last turn had to be taken alone."""
    if not row[side]:
        raise Unusable(f"{side!r} is empty")
    whole = {**extras(row), "prompt": row["prompt"], "completion": row[side]}
    return one_sequence(whole, "prompt-completion", tokenizer, turns=turns)


def margin_of(row: Mapping[str, Any]) -> float | None:
    """How much better the chosen answer of a row is; None where the row does not say.

    Raises:
        Unusable: it is no finite number.
    """
    value = row.get(MARGIN)
    if value is None:
        return None
    try:
        found = float(value)
    except (TypeError, ValueError):
        raise Unusable(f"{MARGIN!r} is no number") from None
    if not math.isfinite(found):
        raise Unusable(f"{MARGIN!r} is not finite")
    return found
