"""The formats that rows come in: recognising one by its columns, and converting a row to its record type.

    name = recognise(rows)            # "alpaca"
    kind, row = convert(rows[0], name)  # "prompt-completion", {"prompt": ..., "completion": ...}

`convert` raises `Unusable` with the reason for a row that cannot be used. A ranking stays one row with its answers,
best first; `rankings.expanded` makes its pairs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from tunesmith.spec import RecordType
from tunesmith_data import extras
from tunesmith_data.form import Format, Row
from tunesmith_data.labelled import text_label, text_labels, tokens_tags
from tunesmith_data.messages import conversation
from tunesmith_data.pairs import alpaca, prompt_and_completion, prompt_only
from tunesmith_data.preferences import COMPLETION, INSTRUCTION, PREFERENCES, PROMPT
from tunesmith_data.rankings import ranking
from tunesmith_data.raw import BARE
from tunesmith_data.values import Unusable, filled, get, text

__all__ = ["FORMATS", "Format", "Unusable", "convert", "recognise", "title_of"]


def _messages(row: Row) -> dict[str, Any]:
    return {"messages": conversation(get(row, "messages"), "messages")}


def _sharegpt(row: Row) -> dict[str, Any]:
    if filled(row.get("mask")) and str(row["mask"]).strip().lower() not in ("user", "human"):
        raise Unusable("'mask' hides another side than the user's; say it by `weight` in the messages")
    return {"messages": conversation(get(row, "conversations"), "conversations")}


def _conversation(row: Row) -> dict[str, Any]:
    return {"messages": conversation(get(row, BARE), BARE)}


def _text(row: Row) -> dict[str, Any]:
    return {"text": text(row, "text")}


_TEXT = {"text": "the text"}

_ALL = (
    Format(
        "ranking",
        "ranking (prompt, answers, perhaps scores)",
        "preference",
        ("prompt", "answers"),
        ranking,
        {**PROMPT, "answers": "a list of answers, the best first", "scores": "a list of numbers, one an answer"},
    ),
    *PREFERENCES,
    Format(
        "prompt-completion",
        "prompt-completion (prompt, completion)",
        "prompt-completion",
        ("prompt", "completion"),
        prompt_and_completion,
        {**PROMPT, **COMPLETION},
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
        "conversation",
        "bare conversations (messages, or questions with their answers)",
        "messages",
        (BARE,),
        _conversation,
        {BARE: "the conversation: as in `messages`; also what a row is that is a list itself"},
    ),
    Format(
        "alpaca",
        "Alpaca (instruction, input, output)",
        "prompt-completion",
        ("instruction", "output"),
        alpaca,
        {**INSTRUCTION, "output": "the answer"},
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
    Format("prompt", "prompts only (prompt)", "prompt", ("prompt",), prompt_only, PROMPT),
)

#: Every format by its name. The order is the order of recognition: the more columns it takes, the earlier.
FORMATS: dict[str, Format] = {form.name: form for form in _ALL}


def recognise(rows: Iterable[Row]) -> str | None:
    """The format that most of `rows` have, or None when that is none. Give about a hundred rows."""
    votes = Counter(_recognise_one(row) for row in rows)
    # of equally frequent ones the first seen wins; rows of no format never outvote those of one
    named = [(name, count) for name, count in votes.most_common() if name is not None]
    return named[0][0] if named else None


def convert(row: Row, name: str, *, chosen: bool = False) -> tuple[RecordType, dict[str, Any]]:
    """A row of the format `name` as its record type and a canonical row.

    Args:
        chosen: the recipe names the format, so that a row with a verdict is still what it says.

    Raises:
        Unusable: with the reason.
        KeyError: there is no such format.
    """
    form = FORMATS[name]
    own = _recognise_one(row)
    if own is not None and own != name and (not form.has_columns(row) or (not chosen and _judges(own, form))):
        raise Unusable(f"the row is {title_of(own)}, unlike most")
    for column, value in row.items():
        if column in form.refuses and filled(value):
            raise Unusable(f"the row has {column!r}: {form.refuses[column]}; `ignore` can leave it out")
    return form.type, (extras.beside if form.chat else extras.weighted)(row, form.convert(row))


def _judges(own: str, form: Format) -> bool:
    """Whether rows of the format `own` say which answers are wanted, and those of `form` do not."""
    verdicts = ("preference", "unpaired-preference")
    return FORMATS[own].type in verdicts and form.type not in verdicts


def title_of(name: str) -> str:
    """What the console calls a format."""
    return FORMATS[name].title


def _recognise_one(row: Row) -> str | None:
    return next((form.name for form in _with_columns(frozenset(row)) if form.fits(row)), None)


@lru_cache(maxsize=256)
def _with_columns(columns: frozenset[str]) -> tuple[Format, ...]:
    """The formats whose columns are among these; most rows of a set have the same ones."""
    row = dict.fromkeys(columns)
    return tuple(form for form in _ALL if form.has_columns(row))
