"""Rows to prompts: which can be answered, and in which order they are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith import Context, DataError, Dataset, ModelHandle, Records
from tunesmith_transformers.tokens.batching import EpochSampler
from tunesmith_transformers.tokens.encoding import column_values, encode_row, prompt_ids
from tunesmith_transformers.tokens.example import WEIGHTLESS, Unusable, weight_of

LEFT = "Mend the rows, or raise max_length or lower max_new_tokens in [trainer]."


@dataclass(frozen=True)
class Prompt:
    """One row as something to answer.

    Args:
        row: its name.
        ids: what the model goes on from.
        given: the prompt as the data has it: text, or messages.
        source: the whole row, for reward functions.
        columns: what the model takes besides tokens.
    """

    row: str
    ids: tuple[int, ...]
    given: Any
    source: Mapping[str, Any]
    columns: Mapping[str, int]


def encode_prompts(
    data: Dataset,
    handle: ModelHandle,
    max_new_tokens: int,
    max_length: int | None,
    context: Context,
    check_row: Callable[[Mapping[str, Any]], None] = lambda row: None,
) -> list[Prompt]:
    """The rows' prompts; those without one and those that leave no room for an answer go to the ledger.

    Args:
        max_length: longest prompt with its answer, in tokens.
        check_row: raises `Unusable` for a row whose answers could not be scored.

    Raises:
        DataError: too many rows are lost, or the rows need a chat template and there is none.
    """
    prompts, left_out = usable_prompts(data.train, data.type, handle, max_new_tokens, max_length, check_row)
    for name, reason in left_out.items():
        context.ledger.drop(name, reason, expected=reason == WEIGHTLESS)
    context.check_rows()
    if not prompts:  # held-out rows alone are left
        raise DataError("no row is left after tokenization", details=context.ledger.examples(), fix=LEFT)
    context.ledger.trained = len(prompts)
    return prompts


def usable_prompts(
    records: Records,
    record_type: str,
    handle: ModelHandle,
    max_new_tokens: int,
    max_length: int | None,
    check_row: Callable[[Mapping[str, Any]], None] = lambda row: None,
) -> tuple[list[Prompt], dict[str, str]]:
    """The rows' prompts, and by row why others cannot be answered; see `encode_prompts`."""
    prompts: list[Prompt] = []
    left_out: dict[str, str] = {}
    for name, row in records:
        try:
            _check_weight(row)
            ids = prompt_ids(row, record_type, handle.tokenizer)
            if not ids:
                raise Unusable("the prompt is empty")
            if max_length is not None and len(ids) + max_new_tokens > max_length:
                raise Unusable(f"the prompt and max_new_tokens = {max_new_tokens} are over max_length = {max_length}")
            check_row(row)
        except Unusable as error:
            left_out[name] = str(error)
            continue
        prompts.append(Prompt(name, tuple(ids), prompt_of(row), row, column_values(row, handle.columns)))
    return prompts, left_out


def _check_weight(row: Mapping[str, Any]) -> None:
    """Refuse a row that weighs otherwise than the rest: what is learned from are answers, not rows.

    Raises:
        Unusable: it does.
    """
    weight = weight_of(row)
    if not weight:
        raise Unusable(WEIGHTLESS)
    if weight != 1:
        raise Unusable("it has a weight, and rewards alone say how much an answer counts")


def demonstrations(
    prompts: Sequence[Prompt], record_type: str, tokenizer: Any, count: int
) -> list[tuple[Prompt, list[int]]]:
    """Up to `count` rows with the answer that the data holds, or prefers, as token ids with its end token.

    They are spread evenly over the rows; empty where the rows have no such answers.
    """
    found = []
    for prompt in prompts:
        row, kind = prompt.source, record_type
        if kind == "preference":
            row, kind = {**row, "completion": row["chosen"]}, "prompt-completion"
        elif kind == "unpaired-preference" and row["label"]:
            kind = "prompt-completion"
        if kind not in ("prompt-completion", "messages"):
            continue
        try:
            ids = encode_row(row, kind, tokenizer, turns="last")[-1].ids
        except Unusable:  # a conversation that ends with the user
            continue
        if len(ids) > len(prompt.ids):
            found.append((prompt, ids[len(prompt.ids) :]))
    count = min(count, len(found))
    return [found[place * len(found) // count] for place in range(count)]


def prompt_of(row: Mapping[str, Any]) -> Any:
    """A row's prompt as the data has it: text, or the messages before the answer."""
    if "prompt" in row:
        return row["prompt"]
    messages = list(row["messages"])
    while messages and messages[-1]["role"] == "assistant":
        messages.pop()
    return messages


class Order:
    """Which prompts each step answers: by seed and step alone, so that a resumed run goes on as it would have.

    Every prompt comes once before one comes again, and then in a new order (Huang et al. 2024, detail 21).
    """

    def __init__(self, count: int, batch_size: int, seed: int) -> None:
        self.count = count
        self.batch_size = batch_size
        self._sampler = EpochSampler([1] * count, batch_size, seed, grouped=False)

    def of_step(self, step: int) -> list[int]:
        """Indices of the prompts of a step, counted from 1."""
        places = range((step - 1) * self.batch_size, step * self.batch_size)
        orders: dict[int, Sequence[int]] = {}
        for epoch in {place // self.count for place in places}:
            self._sampler.set_epoch(epoch)
            orders[epoch] = list(self._sampler)
        return [orders[place // self.count][place % self.count] for place in places]
