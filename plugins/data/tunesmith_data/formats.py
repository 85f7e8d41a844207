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
from tunesmith_data.labelled import text_label, text_labels, tokens_tags
from tunesmith_data.messages import conversation
from tunesmith_data.pairs import preference, prompt_and_completion, prompt_only
from tunesmith_data.rankings import ranking
from tunesmith_data.values import Unusable, clean, get, text, verdict

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
        convert: makes a canonical row, or raises `Unusable`.
    """

    name: str
    title: str
    type: RecordType
    columns: tuple[str, ...]
    convert: Callable[[Row], dict[str, Any]]


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
    return {"messages": conversation(get(row, "conversations"), "conversations")}


def _text(row: Row) -> dict[str, Any]:
    return {"text": text(row, "text")}


_ALL = (
    Format("ranking", "ranking (prompt, answers, perhaps scores)", "preference", ("prompt", "answers"), ranking),
    Format("preference", "preference (prompt, chosen, rejected)", "preference", ("chosen", "rejected"), preference),
    Format(
        "unpaired-preference",
        "unpaired preference (prompt, completion, label)",
        "unpaired-preference",
        ("prompt", "completion", "label"),
        _unpaired,
    ),
    Format(
        "prompt-completion",
        "prompt-completion (prompt, completion)",
        "prompt-completion",
        ("prompt", "completion"),
        prompt_and_completion,
    ),
    Format("messages", "OpenAI messages (messages with role, content)", "messages", ("messages",), _messages),
    Format("sharegpt", "ShareGPT (conversations with from, value)", "messages", ("conversations",), _sharegpt),
    Format(
        "alpaca",
        "Alpaca (instruction, input, output)",
        "prompt-completion",
        ("instruction", "output"),
        _alpaca,
    ),
    Format("text-label", "labelled text (text, label)", "text-label", ("text", "label"), text_label),
    Format("text-labels", "text with several labels (text, labels)", "text-labels", ("text", "labels"), text_labels),
    Format("tokens-tags", "tagged words (tokens, tags)", "tokens-tags", ("tokens", "tags"), tokens_tags),
    Format("text", "plain text (text)", "text", ("text",), _text),
    Format("prompt", "prompts only (prompt)", "prompt", ("prompt",), prompt_only),
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
    return form.type, form.convert(row)


def title_of(name: str) -> str:
    """What the console calls a format."""
    return FORMATS[name].title


def _recognise_one(row: Row) -> str | None:
    return next((form.name for form in _ALL if all(column in row for column in form.columns)), None)
