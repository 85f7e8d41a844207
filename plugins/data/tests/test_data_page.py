"""The page of data formats says what the code declares, and the code does what it declares."""

import json
from pathlib import Path
from typing import Any

import pytest

from tunesmith_data import extras, messages, page
from tunesmith_data.formats import FORMATS, Unusable, convert

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "data-formats.md"


def test_every_table_is_as_the_code_declares() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text == page.written(text), f"python -m tunesmith_data.page {PAGE}"
    assert {match["name"] for match in page.TABLE.finditer(text)} == set(page.tables())


ASKED = [{"role": "user", "content": "a"}]
TALK = [*ASKED, {"role": "assistant", "content": "b"}]
ROWS: dict[str, dict[str, Any]] = {
    "ranking": {"prompt": "a", "answers": ["b", "c"]},
    "preference-messages": {"messages": ASKED, "chosen": "b", "rejected": "c"},
    "preference-alpaca": {"instruction": "a", "chosen": "b", "rejected": "c"},
    "transcripts": {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: a\n\nAssistant: c"},
    "preference": {"prompt": "a", "chosen": "b", "rejected": "c"},
    "rejected-response": {"messages": TALK, "rejected_response": "c"},
    "chosen-messages": {"chosen_messages": TALK, "rejected_messages": [*ASKED, {"role": "assistant", "content": "c"}]},
    "unpaired-messages": {"messages": TALK, "label": True},
    "unpaired-alpaca": {"instruction": "a", "output": "b", "label": True},
    "unpaired-preference": {"prompt": "a", "completion": "b", "label": True},
    "prompt-completion": {"prompt": "a", "completion": "b"},
    "messages": {"messages": TALK},
    "conversation": {"conversation": [["a", "b"]]},
    "sharegpt": {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
    "alpaca": {"instruction": "a", "output": "b"},
    "text-label": {"text": "a", "label": "b"},
    "text-labels": {"text": "a", "labels": ["b"]},
    "tokens-tags": {"tokens": ["a"], "tags": ["b"]},
    "text": {"text": "a"},
    "prompt": {"prompt": "a"},
}
#: A value of each shared column that must show in the row.
SAID: dict[str, Any] = {
    **dict.fromkeys(extras.SYSTEM, "Be brief."),
    "history": [["before", "then"]],
    **{column: [{"name": "add"}] for column in ("tools", "functions")},
    "chat_template_kwargs": {"enable_thinking": False},
    **dict.fromkeys(extras.REASONING, "hm"),
    **dict.fromkeys(extras.WEIGHTS, 2.0),
}
#: Own columns that are not in ROWS, or say by their value only whether the row can be used.
OWN: dict[str, Any] = {
    "input": "more",
    "scores": [1, 2],
    "mask": "assistant",
    **{column: [["other", "talk"]] for column in ("messages", "conversations", "conversation")},
    "prompt": "other",
    **dict.fromkeys(("label", "kto_tag"), False),
    "rejected_response": "d",
    "rejected_messages": [*ASKED, {"role": "assistant", "content": "d"}],
}


def outcome(row: dict[str, Any], name: str) -> Any:
    try:
        return convert(row, name)
    except Unusable as error:
        return error.reason


@pytest.mark.parametrize("name", FORMATS)
def test_every_column_that_is_said_to_be_read_changes_the_row_or_refuses_it(name: str) -> None:
    row = ROWS[name]
    before = outcome(row, name)
    assert isinstance(before, tuple)
    for column in FORMATS[name].reads:
        if column in row:
            changed = {key: value for key, value in row.items() if key != column}
        else:
            changed = {**row, column: {**SAID, **OWN}[column]}
        assert outcome(changed, name) != before, column


@pytest.mark.parametrize("name", FORMATS)
def test_every_column_that_is_said_to_be_refused_is(name: str) -> None:
    for column, why in FORMATS[name].refuses.items():
        assert outcome({**ROWS[name], column: ["x"]}, name) == (
            f"the row has {column!r}: {why}; `ignore` can leave it out"
        )
        assert outcome({**ROWS[name], column: None}, name) == outcome(ROWS[name], name)


CALL = {"function": {"name": "add", "arguments": "{}"}}
TURN: dict[str, Any] = {
    **dict.fromkeys(messages.ROLE_KEYS, "assistant"),
    **dict.fromkeys(messages.CONTENT_KEYS, "b"),
    **dict.fromkeys(messages.REASONING_KEYS, "hm"),
    "tool_calls": [CALL],
    "function_call": CALL["function"],
    "tool_call_id": "1",
    "name": "add",
    **dict.fromkeys(messages.weights.FLAGS, False),
    **dict.fromkeys(messages.weights.MASKS, True),
}


@pytest.mark.parametrize("key", messages.READ)
def test_every_key_of_a_message_that_is_said_to_be_read_changes_it(key: str) -> None:
    role = "tool" if key in ("tool_call_id", "name") else "assistant"
    least = {"role": role, "content": "b"}
    given = {**least, key: TURN[key]}
    if key in messages.ROLE_KEYS:
        given = {key: "assistant", "content": "b"}
        least = {"content": "b"}
    elif key in messages.CONTENT_KEYS:
        given, least = {"role": "assistant", key: "b"}, {"role": "assistant"}
    assert _messages(given) != _messages(least)


@pytest.mark.parametrize("key", messages.REFUSED)
def test_every_key_of_a_message_that_is_said_to_be_refused_is(key: str) -> None:
    reason = _messages({"role": "assistant", "content": "b", key: "x"})
    assert reason == f"a message has {key!r}: {messages.REFUSED[key]}; `ignore` can leave it out"


def _messages(message: dict[str, Any]) -> Any:
    try:
        return messages.messages([json.loads(json.dumps(message))], "messages")
    except Unusable as error:
        return error.reason
