"""The token contract: the one place where training ids and weights are made, and checked.

A row becomes token ids and, for each, how much its prediction counts in the loss. The ids of a prompt are exactly those
that serving feeds the model: the chat template with its generation prompt, or the plain text. The tokens that the model
shall produce, its end token included, are supervised; what comes after the end token is not kept.

A row is one example, or several: a conversation whose template rewrites earlier turns (`conversation`), and a row that
is cut into chunks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tunesmith import Column, DataError, Ledger, Records
from tunesmith_transformers.tokens.contract import contract as contract
from tunesmith_transformers.tokens.contract import marked as marked
from tunesmith_transformers.tokens.conversation import conversation
from tunesmith_transformers.tokens.cutting import all_fitted, chunks
from tunesmith_transformers.tokens.ends import ended, prompt_tokens
from tunesmith_transformers.tokens.example import IGNORED as IGNORED
from tunesmith_transformers.tokens.example import WEIGHTLESS, Tokens, example, weight_of
from tunesmith_transformers.tokens.example import Encoded as Encoded
from tunesmith_transformers.tokens.example import Unusable as Unusable
from tunesmith_transformers.tokens.rendering import check_context, rendered, talk_of, tokens_of

LAST_ALONE = "the chat template rewrites earlier turns: of the answer the last turn alone is compared"


def encode(
    records: Records,
    record_type: str,
    tokenizer: Any,
    *,
    max_length: int | None = None,
    overlong: str = "auto",
    supervise: str = "answers",
    turns: str = "all",
    ledger: Ledger | None = None,
    columns: Mapping[str, Column] | None = None,
) -> list[Encoded]:
    """Encode rows of type text, prompt-completion or messages; what cannot be used goes to the ledger.

    Args:
        max_length: longest example, in tokens.
        overlong: what becomes of longer ones: `truncate` cuts at the end, `drop` leaves the row out, `chunk` makes
            several of it; `auto` makes chunks of text and cuts the rest.
        supervise: `answers`, or `all` for the prompts too.
        turns: of a conversation, `all` turns of the assistant or the `last` alone; `one` is all of them where they are
            one example, else the last.
        ledger: where dropped and truncated rows are written; None counts nothing.
        columns: what the model takes besides tokens (`ModelHandle.columns`).

    Raises:
        DataError: the rows need a chat template and the tokenizer has none, or lack what a column reads.
    """
    options: dict[str, Any] = {"max_length": max_length, "overlong": overlong, "supervise": supervise, "turns": turns}
    ledger = ledger or Ledger()
    return list(encoded(records, record_type, tokenizer, ledger=ledger, columns=columns, **options))


def encoded(
    records: Records,
    record_type: str,
    tokenizer: Any,
    *,
    ledger: Ledger,
    columns: Mapping[str, Column] | None = None,
    **options: Any,
) -> Iterator[Encoded]:
    """The examples of `encode` one by one; the ledger is written as they come."""
    for name, row in records:
        found = outcome(name, row, record_type, tokenizer, **options)
        found.enter(ledger)
        values = column_values(row, columns or {}) if columns and found.examples else {}
        for part, tokens in enumerate(found.examples, 1):
            yield example(name, tokens, values, part if len(found.examples) > 1 else 0)


@dataclass(frozen=True)
class Outcome:
    """What became of a row.

    Args:
        examples: its tokens and their weights; empty where the row is dropped.
        dropped: why it is dropped; empty where it is not.
        truncated: why not all of it is trained; empty where all is.
        cut: how many tokens are lost by that.
    """

    row: str
    examples: tuple[Tokens, ...] = ()
    dropped: str = ""
    truncated: str = ""
    cut: int = 0

    def enter(self, ledger: Ledger) -> None:
        """Write it to a ledger, where there is something to tell."""
        if self.dropped:
            ledger.drop(self.row, self.dropped, expected=self.dropped == WEIGHTLESS)
        elif self.truncated:
            ledger.truncate(self.row, self.truncated, tokens_cut(self.cut) if self.cut else "", tokens=self.cut)


def tokens_cut(count: int) -> str:
    """How much of a row was cut, as the ledger's detail."""
    return f"{count} token{'s' * (count != 1)} cut"


def outcome(
    name: str,
    row: Mapping[str, Any],
    record_type: str,
    tokenizer: Any,
    *,
    max_length: int | None = None,
    overlong: str = "auto",
    supervise: str = "answers",
    turns: str = "all",
) -> Outcome:
    """What becomes of a row: its examples, or the reason why it has none; arguments as of `encode`.

    Raises:
        DataError: the row needs a chat template and the tokenizer has none.
    """
    if overlong == "auto":
        overlong = "chunk" if record_type == "text" else "truncate"
    alone = False
    try:
        if turns == "one":
            only, alone = one_sequence(row, record_type, tokenizer, supervise=supervise)
            whole = [only]
        else:
            whole = encode_row(row, record_type, tokenizer, supervise=supervise, turns=turns)
        if overlong == "chunk":
            return Outcome(name, tuple(piece for tokens in whole for piece in chunks(tokens, max_length)))
        kept = all_fitted(whole, max_length, overlong)
    except Unusable as error:
        return Outcome(name, dropped=str(error))
    lost = sum(len(tokens.ids) for tokens in whole) - sum(len(tokens.ids) for tokens in kept)
    reason = LAST_ALONE if alone else f"cut at max_length = {max_length}" if lost else ""
    return Outcome(name, tuple(kept), truncated=reason, cut=lost)


def one_sequence(
    row: Mapping[str, Any], record_type: str, tokenizer: Any, *, supervise: str = "answers", turns: str = "all"
) -> tuple[Tokens, bool]:
    """A row as one example, and whether its last turn had to be taken alone: where its chat template rewrites earlier
    turns, they stand in no sequence with the last one.

    Raises:
        Unusable, DataError: as `encode_row`.
    """
    found = encode_row(row, record_type, tokenizer, supervise=supervise, turns=turns)
    if len(found) == 1:
        return found[0], False
    return encode_row(row, record_type, tokenizer, supervise=supervise, turns="last")[0], True


def column_values(row: Mapping[str, Any], columns: Mapping[str, Column]) -> dict[str, int]:
    """What the model takes for this row besides its tokens, by name.

    Raises:
        DataError: the row lacks what a column reads.
    """
    return {name: column.read(row) for name, column in columns.items()}


def encode_row(
    row: Mapping[str, Any], record_type: str, tokenizer: Any, *, supervise: str = "answers", turns: str = "all"
) -> list[Tokens]:
    """The examples of one row, whole: one, or several where its chat template rewrites earlier turns.

    Raises:
        Unusable: nothing in it can be supervised, or its template cannot be followed.
        DataError: the record type is not one that a language model is tuned on, or there is no template.
    """
    own = weight_of(row)
    if not own:
        raise Unusable(WEIGHTLESS)
    if record_type == "text":
        ids = ended(tokenizer, prompt_tokens(tokenizer, row["text"]))
        found = [Tokens(ids, [1.0] * len(ids))]
    elif record_type == "prompt-completion":
        found = _prompt_completion(row, tokenizer, supervise, turns)
    elif record_type == "messages":
        talk = talk_of(row, row["messages"], tokenizer=tokenizer)
        found = conversation(talk, tokenizer, supervise=supervise, turns=turns)
    else:
        raise DataError(f"{record_type!r} rows cannot be encoded for language modelling")
    # nothing comes before a first token to predict it from
    found = [Tokens(ids, [0.0, *(weight * own for weight in weights[1:])]) for ids, weights in found]
    found = [tokens for tokens in found if any(tokens.weights)]
    if not found:
        raise Unusable("nothing in it is supervised")
    return found


def _prompt_completion(row: Mapping[str, Any], tokenizer: Any, supervise: str, turns: str) -> list[Tokens]:
    prompt, completion = row["prompt"], row["completion"]
    if isinstance(prompt, str) and isinstance(completion, str):
        # the prompt is tokenized by itself, as serving does, and the completion goes on from there
        head = prompt_tokens(tokenizer, prompt)
        tail = ended(tokenizer, tokens_of(tokenizer, completion))
        return [Tokens([*head, *tail], [float(supervise == "all")] * len(head) + [1.0] * len(tail))]
    if isinstance(prompt, str) or isinstance(completion, str):
        raise Unusable("prompt and completion must both be text or both be messages")
    talk = talk_of(row, [*prompt, *completion], len(prompt), tokenizer)
    return conversation(talk, tokenizer, supervise=supervise, turns=turns)


def prompt_ids(row: Mapping[str, Any], record_type: str, tokenizer: Any) -> list[int]:
    """The ids that a model is asked to go on from: what serving would feed it for this row.

    Raises:
        Unusable: the row has no prompt, or its template leaves something out of it.
    """
    if record_type in ("prompt-completion", "prompt", "unpaired-preference", "preference"):
        prompt = row["prompt"]
        return prompt_tokens(tokenizer, prompt) if isinstance(prompt, str) else _asked(row, list(prompt), tokenizer)
    if record_type == "messages":
        messages = list(row["messages"])
        while messages and messages[-1]["role"] == "assistant":
            messages.pop()
        if not messages:
            raise Unusable("no message before the answer")
        return _asked(row, messages, tokenizer)
    raise Unusable(f"{record_type!r} rows have no prompt")


def _asked(row: Mapping[str, Any], messages: list[Any], tokenizer: Any) -> list[int]:
    talk = talk_of(row, messages, len(messages), tokenizer)
    check_context(tokenizer, talk, len(messages))
    return tokens_of(tokenizer, rendered(tokenizer, talk, generation_prompt=True))


def reference(row: Mapping[str, Any], record_type: str, tokenizer: Any = None) -> str:
    """The answer that the data holds for a row, as plain text; empty when it holds none.

    Args:
        tokenizer: writes an answer that calls tools as its chat template does; without one it is what is said besides.
    """
    if tokenizer is not None and record_type in ("messages", "prompt-completion") and _calls(row, record_type):
        try:
            last = encode_row({**row, "weight": 1}, record_type, tokenizer, turns="last")[-1]
        except Unusable:
            return ""
        ids = last.ids[last.supervised.index(True) :]
        return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    if record_type == "messages":
        last = row["messages"][-1]
        return last["content"] if last["role"] == "assistant" else ""
    answer = row.get("completion", row.get("chosen", ""))
    return answer if isinstance(answer, str) else "\n".join(message["content"] for message in answer)


def _calls(row: Mapping[str, Any], record_type: str) -> bool:
    """Whether the last turn of a row calls tools."""
    turns = row["messages" if record_type == "messages" else "completion"]
    return bool(turns) and not isinstance(turns, str) and bool(turns[-1].get("tool_calls"))
