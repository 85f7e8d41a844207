"""The token contract: the one place where training ids and masks are made, and checked.

A row becomes token ids and, for each, whether it is supervised (its prediction enters the loss). The ids
of a prompt are exactly those that serving feeds the model: the chat template with its generation prompt,
or the plain text. The tokens that the model shall produce, its end token included, are supervised; what
comes after the end token is not kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from tunesmith import Column, DataError, Ledger, Records

IGNORED = -100  # the label that torch's cross-entropy leaves out


class Unusable(ValueError):
    """A row that cannot be made into a training example; the text is the ledger's reason."""


@dataclass(frozen=True)
class Encoded:
    """One row as tokens.

    Args:
        row: the row's name.
        ids: token ids, length T.
        supervised: for each token whether it is to be predicted, length T; never the first.
        columns: what the model takes for this row besides its tokens, by name.
    """

    row: str
    ids: tuple[int, ...]
    supervised: tuple[bool, ...]
    columns: Mapping[str, int] = field(default_factory=dict)

    @property
    def labels(self) -> list[int]:
        """The ids with -100 where nothing is to be predicted, length T."""
        return [token if wanted else IGNORED for token, wanted in zip(self.ids, self.supervised, strict=True)]


def encode(
    records: Records,
    record_type: str,
    tokenizer: Any,
    *,
    max_length: int | None = None,
    overlong: str = "truncate",
    ledger: Ledger | None = None,
    columns: Mapping[str, Column] | None = None,
) -> list[Encoded]:
    """Encode rows of type text, prompt-completion or messages; what cannot be used goes to the ledger.

    Args:
        max_length: longest example, in tokens.
        overlong: `truncate` cuts at the end, `drop` leaves the row out.
        ledger: where dropped and truncated rows are written; None counts nothing.
        columns: what the model takes besides tokens (`ModelHandle.columns`).

    Raises:
        DataError: the rows need a chat template and the tokenizer has none, or lack what a column reads.
    """
    return list(
        encoded(
            records,
            record_type,
            tokenizer,
            max_length=max_length,
            overlong=overlong,
            ledger=ledger or Ledger(),
            columns=columns,
        )
    )


def encoded(
    records: Records,
    record_type: str,
    tokenizer: Any,
    *,
    max_length: int | None,
    overlong: str,
    ledger: Ledger,
    columns: Mapping[str, Column] | None = None,
) -> Iterator[Encoded]:
    """The rows of `encode` one by one."""
    for name, row in records:
        try:
            ids, supervised = encode_row(row, record_type, tokenizer)
            length = len(ids)
            ids, supervised = fitted(ids, supervised, max_length, overlong)
        except Unusable as error:
            ledger.drop(name, str(error))
            continue
        if len(ids) < length:
            ledger.truncate(name, f"cut at max_length = {max_length}")
        yield Encoded(name, tuple(ids), tuple(supervised), column_values(row, columns or {}))


def fitted(
    ids: list[int], supervised: list[bool], max_length: int | None, overlong: str
) -> tuple[list[int], list[bool]]:
    """One row's ids and mask, no longer than `max_length`.

    Args:
        overlong: `truncate` cuts at the end, `drop` refuses the row.

    Raises:
        Unusable: the row is too long, or nothing supervised is left of it.
    """
    if max_length is None or len(ids) <= max_length:
        return ids, supervised
    if overlong == "drop":
        raise Unusable(f"longer than max_length = {max_length}")
    if not any(supervised[:max_length]):
        raise Unusable(f"the prompt alone fills max_length = {max_length}")
    return ids[:max_length], supervised[:max_length]


def column_values(row: Mapping[str, Any], columns: Mapping[str, Column]) -> dict[str, int]:
    """What the model takes for this row besides its tokens, by name.

    Raises:
        DataError: the row lacks what a column reads.
    """
    return {name: column.read(row) for name, column in columns.items()}


def encode_row(row: Mapping[str, Any], record_type: str, tokenizer: Any) -> tuple[list[int], list[bool]]:
    """The ids of one row and which of them are supervised.

    Raises:
        Unusable: nothing in it can be supervised, or its template cannot be followed.
        DataError: the record type is not one that a language model is tuned on, or there is no template.
    """
    if record_type == "text":
        ids, supervised = _text(row["text"], tokenizer)
    elif record_type == "prompt-completion":
        ids, supervised = _prompt_completion(row, tokenizer)
    elif record_type == "messages":
        ids, supervised = _messages(row["messages"], tokenizer)
    else:
        raise DataError(f"{record_type!r} rows cannot be encoded for language modelling")
    if supervised:
        supervised[0] = False  # nothing comes before it to predict it from
    if not any(supervised):
        raise Unusable("nothing in it is supervised")
    return ids, supervised


def prompt_ids(row: Mapping[str, Any], record_type: str, tokenizer: Any) -> list[int]:
    """The ids that a model is asked to go on from: what serving would feed it for this row.

    Raises:
        Unusable: the row has no prompt.
    """
    if record_type in ("prompt-completion", "prompt", "unpaired-preference", "preference"):
        prompt = row["prompt"]
        return _ids(tokenizer, prompt) if isinstance(prompt, str) else _rendered(tokenizer, prompt, True)
    if record_type == "messages":
        messages = list(row["messages"])
        while messages and messages[-1]["role"] == "assistant":
            messages.pop()
        if not messages:
            raise Unusable("no message before the answer")
        return _rendered(tokenizer, messages, True)
    raise Unusable(f"{record_type!r} rows have no prompt")


def reference(row: Mapping[str, Any], record_type: str) -> str:
    """The answer that the data holds for a row, as plain text; empty when it holds none."""
    if record_type == "messages":
        last = row["messages"][-1]
        return last["content"] if last["role"] == "assistant" else ""
    answer = row.get("completion", row.get("chosen", ""))
    return answer if isinstance(answer, str) else "\n".join(message["content"] for message in answer)


def contract(encoded: Sequence[Encoded], tokenizer: Any) -> dict[str, Any]:
    """Check encoded rows as a whole and sum them up for the manifest.

    Returns:
        `rows`, `tokens`, `supervised_tokens`, `supervised_share`, `ends_with_eos` (rows whose last
        supervised token is the end token), `digest` (sha256 over all ids and masks) and the `lengths` in tokens.

    Raises:
        DataError: a row supervises nothing, or no row teaches the model to stop.
    """
    digest = hashlib.sha256()
    ends = supervised = 0
    empty: list[str] = []
    lengths: list[int] = []
    for item in encoded:  # once: the rows may come out of a file
        digest.update(repr((item.ids, item.supervised, *sorted(item.columns.items()))).encode())
        lengths.append(len(item.ids))
        supervised += sum(item.supervised)
        last = max((index for index, wanted in enumerate(item.supervised) if wanted), default=None)
        if last is None:
            empty.append(item.row)
        else:
            ends += item.ids[last] == tokenizer.eos_token_id
    if empty or not lengths:
        raise DataError(
            f"{len(empty)} rows supervise nothing" if lengths else "no row is left after tokenization",
            details=empty[:5],
            fix="`tunesmith data show RECIPE --mask` shows what is supervised.",
        )
    if not ends:
        raise DataError(
            f"no row ends with the supervised end token {tokenizer.eos_token!r}: the model would not learn to stop",
            fix="Raise max_length, or use a chat template that ends the assistant's turn with the end token.",
        )
    tokens = sum(lengths)
    return {
        "rows": len(lengths),
        "tokens": tokens,
        "supervised_tokens": supervised,
        "supervised_share": round(supervised / tokens, 4),
        "ends_with_eos": ends,
        "digest": digest.hexdigest(),
        "lengths": histogram(lengths),
    }


def histogram(lengths: Sequence[int], bins: int = 20) -> dict[str, list[int]]:
    """How many rows are how long: `counts` of rows in bins of equal width, and the `edges` of the bins in tokens."""
    low, high = min(lengths), max(lengths) + 1
    width = max(1, -(-(high - low) // bins))
    counts = [0] * -(-(high - low) // width)
    for length in lengths:
        counts[(length - low) // width] += 1
    return {"edges": [low + width * index for index in range(len(counts) + 1)], "counts": counts}


def marked(encoded: Encoded, tokenizer: Any) -> list[tuple[str, bool]]:
    """Each token's text and whether it is supervised, for display."""
    return [(tokenizer.decode([token]), wanted) for token, wanted in zip(encoded.ids, encoded.supervised, strict=True)]


# --- the record types ---------------------------------------------------------------------------
def _text(text: str, tokenizer: Any) -> tuple[list[int], list[bool]]:
    ids = [*_ids(tokenizer, text), tokenizer.eos_token_id]
    return ids, [True] * len(ids)


def _prompt_completion(row: Mapping[str, Any], tokenizer: Any) -> tuple[list[int], list[bool]]:
    prompt, completion = row["prompt"], row["completion"]
    if isinstance(prompt, str) and isinstance(completion, str):
        # the prompt is tokenized by itself, as serving does, and the completion goes on from there
        head = _ids(tokenizer, prompt)
        tail = [*tokenizer(completion, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        return [*head, *tail], [False] * len(head) + [True] * len(tail)
    if isinstance(prompt, str) or isinstance(completion, str):
        raise Unusable("prompt and completion must both be text or both be messages")
    return _turns([*prompt], [*completion], tokenizer)


def _messages(messages: Iterable[Mapping[str, Any]], tokenizer: Any) -> tuple[list[int], list[bool]]:
    """Supervise every assistant turn of a conversation."""
    turns = list(messages)
    ids: list[int] = []
    supervised: list[bool] = []
    for index, message in enumerate(turns):
        if message["role"] != "assistant":
            continue
        more, wanted = _turns(turns[:index], [message], tokenizer)
        if more[: len(ids)] != ids:
            raise Unusable("the chat template renders earlier turns anew in later ones")
        supervised = [*supervised, *wanted[len(ids) :]]
        ids = more
    return ids, supervised


def _turns(prompt: list[Any], answer: list[Any], tokenizer: Any) -> tuple[list[int], list[bool]]:
    """Ids of a conversation whose last turn is the answer; supervised from its first token to its end token."""
    head = _rendered(tokenizer, prompt, True)
    whole = _rendered(tokenizer, [*prompt, *answer], False)
    if whole[: len(head)] != head:
        raise Unusable("the chat template does not continue its own generation prompt")
    end = len(whole)
    while end > len(head) and whole[end - 1] != tokenizer.eos_token_id:
        end -= 1
    if end == len(head):  # the template never writes the end token: serving would not stop there either
        raise Unusable(f"the chat template does not end the answer with {tokenizer.eos_token!r}")
    return whole[:end], [False] * len(head) + [True] * (end - len(head))


def _ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text)["input_ids"])


def _rendered(tokenizer: Any, messages: list[Any], generation_prompt: bool) -> list[int]:
    if not tokenizer.chat_template:
        raise DataError(
            "the rows are conversations, but the tokenizer has no chat template",
            fix="Set chat_template = FILE in [model], or give plain prompt and completion texts.",
        )
    from jinja2.exceptions import TemplateError

    for message in messages:
        for token in _structural(tokenizer):
            if token in str(message.get("content", "")):
                raise Unusable(f"a message holds {token!r}, by which the chat template marks turns")
    try:
        text = tokenizer.apply_chat_template(messages, add_generation_prompt=generation_prompt, tokenize=False)
    except (TemplateError, TypeError, KeyError) as error:
        raise Unusable(f"the chat template refuses it: {error}") from error
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _structural(tokenizer: Any) -> tuple[str, ...]:
    """The special tokens that the chat template writes, and the end token: in a message they would be turns."""
    template, known = _STRUCTURAL.get(tokenizer, (None, ()))
    if template != tokenizer.chat_template:
        template = tokenizer.chat_template
        special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
        known = tuple(sorted(token for token in special if token == tokenizer.eos_token or token in str(template)))
        _STRUCTURAL[tokenizer] = (template, known)
    return known


_STRUCTURAL: WeakKeyDictionary[Any, tuple[Any, tuple[str, ...]]] = WeakKeyDictionary()
