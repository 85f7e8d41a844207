"""Rows with labels as tokens: what a classifier reads, and what it shall say."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from tunesmith import Column, Context, DataError, Labels, Ledger, ModelHandle, Records
from tunesmith.labels import names_of
from tunesmith_classify.settings import TagSettings
from tunesmith_transformers.tokens import cache as token_cache
from tunesmith_transformers.tokens import rows_file as token_rows
from tunesmith_transformers.tokens.batching import column_tensors
from tunesmith_transformers.tokens.encoding import IGNORED, Unusable, column_values, tokens_cut
from tunesmith_transformers.tokens.example import WEIGHTLESS, weight_of

TAGS = "tokens-tags"
COUNTS = "sample_weight"  # what each row of a batch counts


@dataclass(frozen=True)
class Example:
    """One row as tokens.

    Args:
        row: the row's name.
        ids: token ids, length T.
        target: the place of its label; or of each of its labels; or, for tagged words, one a token, length T, with -100
            at every token that is not the first of a word.
        columns: what the model takes for this row besides its tokens, by name.
        count: how much it counts in the loss; None where all count alike.
    """

    row: str
    ids: tuple[int, ...]
    target: tuple[int, ...]
    columns: Mapping[str, int] = field(default_factory=dict)
    count: float | None = None


def encode(
    records: Records,
    record_type: str,
    tokenizer: Any,
    index: Mapping[str, int],
    *,
    max_length: int | None = None,
    overlong: str = "truncate",
    ledger: Ledger | None = None,
    columns: Mapping[str, Column] | None = None,
    weight: str | None = None,
) -> list[Example]:
    """Encode rows of a type with labels; what cannot be used goes to the ledger.

    Args:
        index: the place of each label.
        max_length: longest row, in tokens, the tokenizer's own special tokens included.
        overlong: `truncate` cuts the text at its end, `drop` leaves the row out.
        ledger: where dropped and truncated rows are written; None counts nothing.
        columns: what the model takes besides tokens (`ModelHandle.columns`).
        weight: the column that says how much a row counts; None takes the rows' own `weight`.

    Raises:
        DataError: a row lacks what a column reads.
    """
    ledger = ledger or Ledger()
    own = weight in (None, "weight") and _weighted(records)
    found = []
    for name, row in records:
        names = names_of(row, record_type)
        try:
            if unknown := next((label for label in names if label not in index), None):
                raise Unusable(f"the model has no label {unknown!r}")
            places = [index[label] for label in names]
            ids, target, cut = (_words if record_type == TAGS else _text)(row, places, tokenizer, max_length)
            if cut and overlong == "drop":
                raise Unusable(f"longer than max_length = {max_length}")
            if record_type == TAGS and all(place == IGNORED for place in target):
                raise Unusable(f"no word fits into max_length = {max_length}")
            count = _count(row, weight, own)
            if count == 0:
                raise Unusable(WEIGHTLESS)
        except Unusable as error:
            ledger.drop(name, str(error), expected=error.expected)
            continue
        if cut:
            lost = len(tokenizer(_whole(row, record_type))["input_ids"]) - len(ids)
            ledger.truncate(name, f"cut at max_length = {max_length}", tokens_cut(lost), tokens=lost)
        found.append(Example(name, tuple(ids), tuple(target), column_values(row, columns or {}), count))
    return found


def encode_kept(
    records: Records,
    record_type: str,
    handle: ModelHandle,
    index: Mapping[str, int],
    settings: TagSettings,
    limit: int | None,
    context: Context,
) -> list[Example]:
    """Encode training rows as `encode` does; out of the cache where they are there.

    Args:
        limit: longest row, in tokens.

    Raises:
        DataError: as `encode`.
        DiskError: the tokens can be written nowhere.
    """
    weight = settings.sample_weight
    options: dict[str, Any] = {"max_length": limit, "overlong": settings.overlong, "weight": weight}

    def write(path: Path, ledger: Ledger) -> None:
        found = encode(records, record_type, handle.tokenizer, index, ledger=ledger, **options)
        token_rows.write_lists(path, ((item.row, item.ids, item.target) for item in found))

    own = {"tunesmith-classify": version("tunesmith-classify")}
    about = {"type": record_type, "options": options, "labels": list(index), "plugin": own}
    keep = settings.token_cache
    rows = token_cache.remembered(
        records, handle.tokenizer, context, about, write=write, read=token_rows.TokenRows, keep=keep
    )
    kept = list(rows.lists())
    columns, by_weight = handle.columns, weight in (None, "weight") and _weighted(records)
    values = token_rows.values_of(
        records,
        (name for name, _, _ in kept),
        lambda row: (column_values(row, columns), _count(row, weight, by_weight)),
    )
    return [Example(*row, *own_values) for row, own_values in zip(kept, values, strict=True)]


def held_out(
    records: Records,
    record_type: str,
    handle: ModelHandle,
    index: Mapping[str, int],
    limit: int | None,
    context: Context,
) -> list[Example]:
    """Held-out rows that an evaluator can measure; says which it cannot.

    Args:
        limit: longest row, in tokens; the model's own limit holds too.

    Raises:
        DataError: there are none.
    """
    limit = min(filter(None, (limit, handle.max_length)), default=None)
    left_out = Ledger()
    found = encode(
        records, record_type, handle.tokenizer, index, max_length=limit, ledger=left_out, columns=handle.columns
    )
    if not found:
        raise DataError(
            f"none of the {len(records)} held-out rows can be measured",
            details=left_out.examples(),
            fix="Mend these rows, or hold out others in [data].",
        )
    if left_out.dropped:
        context.reporter.warn(f"{left_out.dropped} held-out rows are not measured ({'; '.join(left_out.examples())})")
    return found


def facts(examples: Sequence[Example]) -> dict[str, Any]:
    """`rows`, `tokens`, and `digest` (sha256 over all ids and targets), for the manifest."""
    digest = hashlib.sha256()
    for item in examples:
        digest.update(repr((item.ids, item.target, *sorted(item.columns.items()))).encode())
    return {
        "rows": len(examples),
        "tokens": sum(len(item.ids) for item in examples),
        "digest": digest.hexdigest(),
    }


@dataclass(frozen=True)
class Collator:
    """Rows to a batch: `input_ids`, `attention_mask` (B, T), `labels`, and the rows' columns and weights, each (B,).

    `labels` are (B,) for one label a row; (B, L) zeros and ones for several; (B, T) for tagged words.
    """

    pad_token_id: int
    record_type: str
    labels: Labels

    def __call__(self, rows: Sequence[Example]) -> dict[str, torch.Tensor]:
        longest = max(len(row.ids) for row in rows)

        def padded(values: Sequence[int], fill: int) -> list[int]:
            return [*values, *[fill] * (longest - len(values))]

        return {
            "input_ids": torch.tensor([padded(row.ids, self.pad_token_id) for row in rows]),
            "attention_mask": torch.tensor([padded([1] * len(row.ids), 0) for row in rows]),
            "labels": self._targets(rows, longest),
            **({} if rows[0].count is None else {COUNTS: torch.tensor([row.count for row in rows])}),
            **column_tensors([row.columns for row in rows]),
        }

    def _targets(self, rows: Sequence[Example], longest: int) -> torch.Tensor:
        if self.record_type == TAGS:
            return torch.tensor([[*row.target, *[IGNORED] * (longest - len(row.target))] for row in rows])
        if self.labels.several:
            targets = torch.zeros(len(rows), len(self.labels))
            for place, row in enumerate(rows):
                targets[place, list(row.target)] = 1.0
            return targets
        return torch.tensor([row.target[0] for row in rows])


def _weighted(records: Records) -> bool:
    """Whether a row says itself how much it counts."""
    return any(row.get("weight") is not None for row in records.rows)


def _count(row: Mapping[str, Any], column: str | None, own: bool) -> float | None:
    """How much a row counts: what a column says, or else the row's own weight where any has one."""
    if own:
        return weight_of(row)
    if column is None:
        return None
    value = row.get(column)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise Unusable(f"its {column!r} is not a number over 0")
    return float(value)


def _whole(row: Mapping[str, Any], record_type: str) -> str:
    """The text of a row, uncut."""
    return " ".join(row["tokens"]) if record_type == TAGS else row["text"]


# --- the record types -----------------------------------------------------------------------------
def _text(
    row: Mapping[str, Any], places: list[int], tokenizer: Any, limit: int | None
) -> tuple[list[int], list[int], bool]:
    ids = list(tokenizer(row["text"])["input_ids"])
    cut = limit is not None and len(ids) > limit
    if cut:  # the tokenizer cuts the text and keeps what it puts around it
        ids = list(tokenizer(row["text"], truncation=True, max_length=limit)["input_ids"])
    if not ids:
        raise Unusable("its text gives no tokens")
    return ids, places, cut


def _words(
    row: Mapping[str, Any], places: list[int], tokenizer: Any, limit: int | None
) -> tuple[list[int], list[int], bool]:
    """Words with blanks between them, as text is written; each word's tag stands at its first token."""
    text, ends = "", []
    for word in row["tokens"]:
        text += f" {word}" if text else word
        ends.append(len(text))
    options = {"truncation": True, "max_length": limit} if limit is not None else {}
    encoded = tokenizer(text, return_offsets_mapping=True, **options)
    target = [IGNORED] * len(encoded["input_ids"])
    word = 0
    tagged: set[int] = set()
    for place, (start, end) in enumerate(encoded["offset_mapping"]):
        if start == end:  # a special token, which stands for no text
            continue
        while ends[word] < end:
            word += 1
        if word not in tagged:
            tagged.add(word)
            target[place] = places[word]
    cut = len(tagged) < len(places)
    if cut and tagged != set(range(len(tagged))):
        raise Unusable("a word gives no token")
    return list(encoded["input_ids"]), target, cut
