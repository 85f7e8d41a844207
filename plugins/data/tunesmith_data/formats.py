"""The formats that rows come in: recognising one by its columns, and converting a row to its record type.

    name = recognise(rows)            # "alpaca"
    kind, row = convert(rows[0], name)  # "prompt-completion", {"prompt": ..., "completion": ...}

`convert` raises `Unusable` with the reason for a row that cannot be used. A ranking stays one row with its answers,
best first; `rankings.expanded` makes its pairs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tunesmith.spec import RecordType
from tunesmith_data import extras
from tunesmith_data.labelled import text_label, text_labels, tokens_tags
from tunesmith_data.messages import conversation
from tunesmith_data.pairs import preference, prompt_and_completion, prompt_only
from tunesmith_data.rankings import ranking
from tunesmith_data.values import Unusable, clean, filled, get, text, verdict

__all__ = ["FORMATS", "Format", "Unusable", "convert", "recognise", "title_of"]

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Format:
    """One way of writing rows.

    Args:
        name: what a recipe writes after `format`.
        title: what the console says was recognised.
        type: the record type that its rows become.
        columns: the columns by which it is recognised.
        convert: makes a canonical row of its own columns, or raises `Unusable`.
        own: its own columns, and what becomes of each.
        chat: whether its rows are conversations, which may have `extras.READ` beside them.
    """

    name: str
    title: str
    type: RecordType
    columns: tuple[str, ...]
    convert: Callable[[Row], dict[str, Any]]
    own: Mapping[str, str]
    chat: bool = True

    @property
    def reads(self) -> dict[str, str]:
        """Every column that is read, and what becomes of it."""
        return {**(extras.READ if self.chat else {}), **extras.WEIGHTS, **self.own}

    @property
    def refuses(self) -> dict[str, str]:
        """Every column that is refused when it says anything, and why."""
        known = extras.REFUSED if self.chat else extras.UNREADABLE
        return {column: why for column, why in known.items() if column not in self.own}


def _alpaca(row: Row) -> dict[str, Any]:
    """Instruction and optional input, a blank line between them, make the prompt (without Alpaca's preamble)."""
    prompt = text(row, "instruction")
    extra = row.get("input")
    if extra is not None and not (isinstance(extra, str) and not extra.strip()):
        prompt = f"{prompt}\n\n{clean(extra, repr('input'))}"
    return {"prompt": prompt, "completion": text(row, "output")}


def _unpaired(row: Row) -> dict[str, Any]:
    return {**prompt_and_completion(row), "label": verdict(row)}


def _messages(row: Row) -> dict[str, Any]:
    return {"messages": conversation(get(row, "messages"), "messages")}


def _sharegpt(row: Row) -> dict[str, Any]:
    if filled(row.get("mask")) and str(row["mask"]).strip().lower() not in ("user", "human"):
        raise Unusable("'mask' hides another side than the user's; say it by `weight` in the messages")
    return {"messages": conversation(get(row, "conversations"), "conversations")}


def _text(row: Row) -> dict[str, Any]:
    return {"text": text(row, "text")}


_PROMPT = {"prompt": "what the user asks: text, or messages that end with the user's or a tool's"}
_COMPLETION = {"completion": "the answer: text, or messages that begin with the assistant's"}
_TEXT = {"text": "the text"}

_ALL = (
    Format(
        "ranking",
        "ranking (prompt, answers, perhaps scores)",
        "preference",
        ("prompt", "answers"),
        ranking,
        {**_PROMPT, "answers": "a list of answers, the best first", "scores": "a list of numbers, one an answer"},
    ),
    Format(
        "preference",
        "preference (prompt, chosen, rejected)",
        "preference",
        ("chosen", "rejected"),
        preference,
        {
            "prompt": f"{_PROMPT['prompt']}; may be left out where both answers begin with it",
            "chosen": "the better answer: text, or messages",
            "rejected": "the worse answer, written as the better one",
        },
    ),
    Format(
        "unpaired-preference",
        "unpaired preference (prompt, completion, label)",
        "unpaired-preference",
        ("prompt", "completion", "label"),
        _unpaired,
        {**_PROMPT, **_COMPLETION, "label": "whether the answer is wanted: true or false"},
    ),
    Format(
        "prompt-completion",
        "prompt-completion (prompt, completion)",
        "prompt-completion",
        ("prompt", "completion"),
        prompt_and_completion,
        {**_PROMPT, **_COMPLETION},
    ),
    Format(
        "messages",
        "OpenAI messages (messages with role, content)",
        "messages",
        ("messages",),
        _messages,
        {"messages": "the conversation: a list of messages, or JSON of one"},
    ),
    Format(
        "sharegpt",
        "ShareGPT (conversations with from, value)",
        "messages",
        ("conversations",),
        _sharegpt,
        {
            "conversations": "the conversation: a list of messages, or JSON of one",
            "mask": "NeMo's name of the side that is not trained; only the user's may stand there",
        },
    ),
    Format(
        "alpaca",
        "Alpaca (instruction, input, output)",
        "prompt-completion",
        ("instruction", "output"),
        _alpaca,
        {
            "instruction": "what the user asks",
            "input": "more of it, after a blank line; may be empty",
            "output": "the answer",
        },
    ),
    Format(
        "text-label",
        "labelled text (text, label)",
        "text-label",
        ("text", "label"),
        text_label,
        {**_TEXT, "label": "its label: text, a number or a boolean"},
        chat=False,
    ),
    Format(
        "text-labels",
        "text with several labels (text, labels)",
        "text-labels",
        ("text", "labels"),
        text_labels,
        {**_TEXT, "labels": "a list of its labels, which may be empty"},
        chat=False,
    ),
    Format(
        "tokens-tags",
        "tagged words (tokens, tags)",
        "tokens-tags",
        ("tokens", "tags"),
        tokens_tags,
        {"tokens": "a list of words", "tags": "a list of tags, one a word"},
        chat=False,
    ),
    Format("text", "plain text (text)", "text", ("text",), _text, _TEXT, chat=False),
    Format("prompt", "prompts only (prompt)", "prompt", ("prompt",), prompt_only, _PROMPT),
)

#: Every format by its name. The order is the order of recognition: the more columns it takes, the earlier.
FORMATS: dict[str, Format] = {form.name: form for form in _ALL}


def recognise(rows: Iterable[Row]) -> str | None:
    """The format that most of `rows` have, or None when that is none. Give about a hundred rows."""
    votes = Counter(_recognise_one(row) for row in rows)
    # of equally frequent ones the first seen wins; rows of no format never outvote those of one
    named = [(name, count) for name, count in votes.most_common() if name is not None]
    return named[0][0] if named else None


def convert(row: Row, name: str) -> tuple[RecordType, dict[str, Any]]:
    """A row of the format `name` as its record type and a canonical row.

    Raises:
        Unusable: with the reason.
        KeyError: there is no such format.
    """
    form = FORMATS[name]
    if not all(column in row for column in form.columns):
        own = _recognise_one(row)
        if own is not None and own != name:
            raise Unusable(f"the row is {title_of(own)}, unlike most")
    for column, why in form.refuses.items():
        if filled(row.get(column)):
            raise Unusable(f"the row has {column!r}: {why}; `ignore` can leave it out")
    return form.type, (extras.beside if form.chat else extras.weighted)(row, form.convert(row))


def title_of(name: str) -> str:
    """What the console calls a format."""
    return FORMATS[name].title


def _recognise_one(row: Row) -> str | None:
    return next((form.name for form in _ALL if all(column in row for column in form.columns)), None)
