"""Every format is recognised by its columns and becomes its record type; a row that cannot is told why."""

import json
from pathlib import Path
from typing import Any, get_args

import pytest

from tunesmith import RECORD_COLUMNS, Context, DataError, Dataset, RecipeError
from tunesmith_data.formats import FORMATS, Unusable, convert, recognise
from tunesmith_data.loaders import jsonl
from tunesmith_data.preferences import PREFERENCES
from tunesmith_data.settings import FormatName, JsonlSettings

USER = {"role": "user", "content": "2 + 2?"}
FOUR = {"role": "assistant", "content": "4"}
FIVE = {"role": "assistant", "content": "5"}
SYSTEM = {"role": "system", "content": "Be brief."}
TOOL = {"role": "tool", "content": "4"}
ALPACA = {"instruction": "Add.", "input": "2 + 2", "output": "4"}

EXAMPLES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("alpaca", ALPACA, {"prompt": "Add.\n\n2 + 2", "completion": "4"}),
    ("alpaca", {"instruction": "Go.", "input": "", "output": "ok"}, {"prompt": "Go.", "completion": "ok"}),
    ("alpaca", {"instruction": "Go.", "input": None, "output": "ok"}, {"prompt": "Go.", "completion": "ok"}),
    ("alpaca", {"instruction": "Go.", "output": "ok"}, {"prompt": "Go.", "completion": "ok"}),
    (
        "sharegpt",
        {
            "conversations": [
                {"from": "system", "value": "Be brief."},
                {"from": "human", "value": "2 + 2?"},
                {"from": "gpt", "value": "4"},
            ]
        },
        {"messages": [SYSTEM, USER, FOUR]},
    ),
    ("messages", {"messages": [SYSTEM, USER, FOUR], "id": 3}, {"messages": [SYSTEM, USER, FOUR]}),
    (
        "messages",
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "2 + 2?"}]}, FOUR]},
        {"messages": [USER, FOUR]},
    ),
    ("prompt-completion", {"prompt": "a", "completion": "b"}, {"prompt": "a", "completion": "b"}),
    ("prompt-completion", {"prompt": [USER], "completion": [FOUR]}, {"prompt": [USER], "completion": [FOUR]}),
    ("prompt-completion", {"prompt": [USER], "completion": "4"}, {"prompt": [USER], "completion": [FOUR]}),
    ("text", {"text": "once", "source": "a book"}, {"text": "once"}),
    (
        "preference",
        {"prompt": "a", "chosen": "b", "rejected": "c"},
        {"prompt": "a", "chosen": "b", "rejected": "c"},
    ),
    (
        "preference",
        {"chosen": [USER, FOUR], "rejected": [USER, FIVE]},
        {"prompt": [USER], "chosen": [FOUR], "rejected": [FIVE]},
    ),
    (
        "preference",
        {"prompt": "2 + 2?", "chosen": [USER, FOUR], "rejected": [USER, FIVE]},
        {"prompt": [USER], "chosen": [FOUR], "rejected": [FIVE]},
    ),
    (
        "preference",
        {"prompt": [SYSTEM, USER], "chosen": [FOUR], "rejected": [FIVE]},
        {"prompt": [SYSTEM, USER], "chosen": [FOUR], "rejected": [FIVE]},
    ),
    (
        "unpaired-preference",
        {"prompt": "a", "completion": "b", "label": True},
        {"prompt": "a", "completion": "b", "label": True},
    ),
    (
        "unpaired-preference",
        {"prompt": "a", "completion": "b", "label": "False"},
        {"prompt": "a", "completion": "b", "label": False},
    ),
    ("prompt", {"prompt": "a"}, {"prompt": "a"}),
    ("prompt", {"prompt": [SYSTEM, USER]}, {"prompt": [SYSTEM, USER]}),
    ("text-label", {"text": "card lost", "label": 3}, {"text": "card lost", "label": 3}),
    ("text-label", {"text": "card lost", "label": "lost"}, {"text": "card lost", "label": "lost"}),
    ("text-labels", {"text": "a", "labels": ["x", 2, "x"]}, {"text": "a", "labels": ["x", 2]}),
    ("text-labels", {"text": "a", "labels": []}, {"text": "a", "labels": []}),
    ("tokens-tags", {"tokens": ["Anna", "ran"], "tags": ["B", "O"]}, {"tokens": ["Anna", "ran"], "tags": ["B", "O"]}),
]


def load(folder: Path, *rows: Any, context: Context | None = None, **settings: Any) -> Dataset:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return jsonl(JsonlSettings(path=Path("rows.jsonl"), **settings), context or Context(folder=folder))


@pytest.mark.parametrize(("name", "row", "expected"), EXAMPLES)
def test_row_is_recognised_and_converted(name: str, row: dict[str, Any], expected: dict[str, Any]) -> None:
    assert recognise([row]) == name
    kind, converted = convert(row, name)
    assert converted == expected
    assert set(RECORD_COLUMNS[kind]) == set(converted)


@pytest.mark.parametrize(("name", "row", "expected"), EXAMPLES)
def test_loader_says_what_it_recognised(tmp_path: Path, name: str, row: dict[str, Any], expected: Any) -> None:
    dataset = load(tmp_path, row, conversational=False)
    plain = ", as plain text, as set by `conversational`" if isinstance(expected.get("prompt"), str) else ""
    assert dataset.recognised == FORMATS[name].title + plain
    assert dataset.type == FORMATS[name].type
    assert list(dataset.train) == [("rows.jsonl:1", expected)]


def test_every_format_can_be_set_by_name() -> None:
    assert set(get_args(FormatName)) == {"auto", *FORMATS}
    here = {form.name for form in FORMATS.values() if form not in PREFERENCES}  # those have tests of their own
    assert {name for name, _, _ in EXAMPLES} >= here - {"ranking", "conversation"}
    assert {form.type for form in FORMATS.values()} == set(RECORD_COLUMNS)


BAD_ROWS: list[tuple[str, dict[str, Any], str]] = [
    ("prompt-completion", {"prompt": "a", "completion": None}, "'completion' is null"),
    ("prompt-completion", {"prompt": "a"}, "the row is prompts only (prompt), unlike most"),
    ("prompt-completion", {"completion": "a"}, "no 'prompt'"),
    ("prompt-completion", {"prompt": "a", "completion": 4}, "'completion' is a number, not text"),
    ("prompt-completion", {"prompt": {"a": 1}, "completion": "b"}, "'prompt' is an object, not text"),
    ("prompt-completion", {"prompt": "", "completion": "b"}, "'prompt' is empty"),
    ("prompt-completion", {"prompt": "a", "completion": " \n\t"}, "'completion' holds only blanks"),
    ("prompt-completion", {"prompt": "a\0b", "completion": "b"}, "'prompt' holds a NUL character"),
    ("prompt-completion", {"prompt": "a", "completion": "\ud83d"}, "'completion' holds a lone surrogate"),
    ("prompt-completion", {"prompt": [USER, FOUR], "completion": "b"}, "'prompt' does not end with the user"),
    ("prompt-completion", {"prompt": [USER], "completion": [USER]}, "'completion' does not start with the assistant"),
    ("alpaca", {"instruction": "a", "input": 3, "output": "b"}, "'input' is a number, not text"),
    ("messages", {"messages": []}, "'messages' is an empty list"),
    ("messages", {"messages": "hello"}, "'messages' is text, not a list of messages"),
    ("messages", {"messages": ["hello"]}, "a message in 'messages' is text, not an object"),
    ("messages", {"messages": [USER]}, "no assistant message"),
    ("messages", {"messages": [{"role": "robot", "content": "a"}]}, "unknown role 'robot', which `roles` can explain"),
    ("messages", {"messages": [{"content": "a"}]}, "a message without a role"),
    ("messages", {"messages": [{"role": 1, "content": "a"}]}, "a message's role is a number, not text"),
    ("messages", {"messages": [SYSTEM, SYSTEM, USER, FOUR]}, "two system messages"),
    ("messages", {"messages": [USER, SYSTEM, FOUR]}, "the system message is not the first"),
    ("messages", {"messages": [USER, USER, FOUR]}, "user and assistant do not alternate"),
    ("messages", {"messages": [FOUR]}, "no message of the user"),
    ("messages", {"messages": [SYSTEM, TOOL, FOUR]}, "the conversation starts with a tool's result"),
    ("messages", {"messages": [USER, {"role": "assistant"}]}, "a message of the assistant has no content"),
    (
        "messages",
        {"messages": [USER, {"role": "assistant", "content": ""}]},
        "a message of the assistant is empty",
    ),
    (
        "messages",
        {"messages": [USER, {"role": "assistant", "content": None, "tool_calls": [{}]}]},
        "a tool call has no name",
    ),
    (
        "messages",
        {"messages": [USER, {**FOUR, "weight": 0}]},
        "every turn of the assistant has weight 0",
    ),
    (
        "messages",
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}, FOUR]},
        "a message has a part of type 'image_url': no part that reads images is installed, "
        "and without images the text means another thing",
    ),
    ("preference", {"prompt": "a", "chosen": "b", "rejected": "b"}, "'chosen' equals 'rejected'"),
    ("preference", {"prompt": "a", "chosen": "", "rejected": "b"}, "'chosen' is empty"),
    ("preference", {"prompt": "a", "chosen": [], "rejected": [FIVE]}, "'chosen' is an empty list"),
    ("preference", {"prompt": "a", "chosen": "b", "rejected": [FIVE]}, "'chosen' is text but 'rejected' is a list"),
    ("preference", {"chosen": "b", "rejected": "c"}, "no 'prompt'"),
    ("preference", {"chosen": [FOUR], "rejected": [FIVE]}, "no 'prompt', and the answers do not begin alike"),
    ("preference", {"chosen": [USER], "rejected": [USER, FIVE]}, "'chosen' holds no more than the prompt"),
    ("unpaired-preference", {"prompt": "a", "completion": "b", "label": 2}, "'label' is not true or false"),
    ("text-label", {"text": "a", "label": []}, "'label' is a list, not text or a number"),
    ("text-label", {"text": "a", "label": float("nan")}, "'label' is not a finite number"),
    ("text-label", {"text": "a", "label": ""}, "'label' is empty"),
    ("text-label", {"text": "a", "label": " "}, "'label' holds only blanks"),
    ("text-label", {"text": "a", "label": None}, "'label' is null"),
    ("text-labels", {"text": "a", "labels": "x;y"}, "'labels' is text, not a list, and `label_separator` is not set"),
    ("text-labels", {"text": "a", "labels": ["x", ""]}, "a label is empty"),
    ("text-labels", {"text": "a", "labels": ["x", None]}, "a label is null, not text or a number"),
    ("tokens-tags", {"tokens": [], "tags": []}, "'tokens' is empty"),
    ("tokens-tags", {"tokens": ["a", "b"], "tags": ["O"]}, "'tokens' and 'tags' differ in number"),
    ("tokens-tags", {"tokens": ["a", ""], "tags": ["O", "O"]}, "a token is empty"),
]


@pytest.mark.parametrize(("name", "row", "reason"), BAD_ROWS)
def test_unusable_row_has_a_reason(name: str, row: dict[str, Any], reason: str) -> None:
    with pytest.raises(Unusable) as error:
        convert(row, name)
    assert error.value.reason == reason


def test_numbers_get_names_and_what_has_none_is_dropped(tmp_path: Path) -> None:
    context = Context(folder=tmp_path)
    labels = [0, "1", 1.0, "late", 2, -1, "early", True, 0.5]
    rows = [{"text": f"{place}", "label": label} for place, label in enumerate(labels)]
    dataset = load(tmp_path, *rows, context=context, label_names=("lost", "late"))
    assert dataset.labels == ("lost", "late")
    assert [row["label"] for _, row in dataset.train] == ["lost", "late", "late", "late"]
    assert context.ledger.reasons() == {
        "a label's number is out of range: `label_names` has 2": 2,
        "a label is neither a name nor a whole number": 2,
        "a label is not among `label_names`": 1,
    }


def test_lists_that_are_one_text_are_parted(tmp_path: Path) -> None:
    dataset = load(tmp_path, {"text": "a b", "labels": "x; y;"}, {"text": "c", "labels": ""}, label_separator=";")
    assert [row["labels"] for _, row in dataset.train] == [["x", "y"], []]
    words = load(tmp_path, {"tokens": "Anna ran", "tags": "B O"}, label_separator=" ")
    assert words.train.rows == [{"tokens": ["Anna", "ran"], "tags": ["B", "O"]}]


def test_majority_decides_and_the_others_are_dropped(tmp_path: Path) -> None:
    context = Context(folder=tmp_path)
    dataset = load(tmp_path, {"text": "a"}, ALPACA, {**ALPACA, "output": "four"}, {"odd": 1}, context=context)
    assert dataset.recognised.startswith("Alpaca (instruction, input, output)")
    assert [(entry.row, f"{entry.reason} {entry.detail}".strip()) for entry in context.ledger.entries] == [
        ("rows.jsonl:1", "the row is plain text (text), unlike most"),
        ("rows.jsonl:4", "no 'instruction'"),
    ]
    assert context.ledger.rows_in == len(dataset.train) + context.ledger.dropped == 4


def test_columns_rename(tmp_path: Path) -> None:
    row = {"question": "2 + 2?", "answer": "4", "prompt": "not this one"}
    dataset = load(tmp_path, row, columns={"prompt": "question", "completion": "answer"})
    assert dataset.train.rows == [{"prompt": "2 + 2?", "completion": "4"}]


def test_renamed_source_column_no_longer_counts(tmp_path: Path) -> None:
    dataset = load(tmp_path, {"text": "2 + 2?", "category": "sum"}, columns={"prompt": "text"})
    assert (dataset.type, dataset.train.rows) == ("prompt", [{"prompt": "2 + 2?"}])


def test_unrecognised_columns_are_listed_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(DataError) as error:
        load(tmp_path, {"question": "a", "answer": "b"})
    message = str(error.value)
    assert "columns found: 'question', 'answer'" in message
    assert 'columns = {prompt = "question"' in message


def test_column_that_no_row_has_is_named_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no row has the column 'qestion'") as error:
        load(tmp_path, {"question": "a"}, columns={"prompt": "qestion"})
    assert error.value.fix == "Did you mean 'question'?"


def test_canonical_name_is_checked(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="unknown column 'promt'") as error:
        load(tmp_path, {"question": "a"}, columns={"promt": "question"})
    assert error.value.fix == "Did you mean 'prompt'?"


def test_format_set_by_hand(tmp_path: Path) -> None:
    dataset = load(tmp_path, {"prompt": "a", "text": "b"}, format="prompt")
    assert dataset.train.rows == [{"prompt": "a"}]
    assert dataset.recognised.startswith("prompts only (prompt), as set by `format`, as plain text")
    with pytest.raises(DataError, match="no row has the columns of the format 'alpaca'"):
        load(tmp_path, {"prompt": "a"}, format="alpaca")


def test_keep_carries_columns_along(tmp_path: Path) -> None:
    context = Context(folder=tmp_path)
    dataset = load(tmp_path, {"prompt": "a", "task": 1}, {"prompt": "b"}, keep=("task",), context=context)
    assert dataset.train.rows == [{"prompt": "a", "task": 1}]
    assert context.ledger.reasons() == {"no 'task', which `keep` names": 1}


def test_system_prompt_is_added_where_there_is_none(tmp_path: Path) -> None:
    other = {"role": "system", "content": "Rhyme."}
    dataset = load(tmp_path, {"messages": [USER, FOUR]}, {"messages": [other, USER, FOUR]}, system="Be brief.")
    assert [row["messages"][0] for row in dataset.train.rows] == [SYSTEM, other]
    plain = load(tmp_path, {"prompt": "2 + 2?", "completion": "4"}, system="Be brief.")
    assert plain.train.rows == [{"prompt": [SYSTEM, USER], "completion": [FOUR]}]


def test_conversational_wraps_plain_text(tmp_path: Path) -> None:
    dataset = load(tmp_path, {"prompt": "2 + 2?", "chosen": "4", "rejected": "5"}, conversational=True)
    assert dataset.train.rows == [{"prompt": [USER], "chosen": [FOUR], "rejected": [FIVE]}]


def test_plain_rows_among_conversations_become_conversations(tmp_path: Path) -> None:
    dataset = load(tmp_path, {"prompt": [USER], "completion": [FOUR]}, {"prompt": "a", "completion": "b"})
    assert dataset.train.rows[1]["prompt"] == [{"role": "user", "content": "a"}]


@pytest.mark.parametrize("option", [{"system": "Be brief."}, {"conversational": True}])
def test_plain_text_takes_no_conversation_settings(tmp_path: Path, option: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="does not apply"):
        load(tmp_path, {"text": "once"}, **option)
