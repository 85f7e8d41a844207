"""Rows that say which answers are wanted, in the shapes in which other tools write them; and bare conversations."""

import json
from pathlib import Path
from typing import Any

import pytest

from tunesmith import RECORD_COLUMNS, Context, Dataset
from tunesmith_data.formats import FORMATS, Unusable, convert, recognise
from tunesmith_data.loaders import json as load_json
from tunesmith_data.loaders import jsonl
from tunesmith_data.preferences import PREFERENCES
from tunesmith_data.settings import JsonlSettings, JsonSettings

SYSTEM = {"role": "system", "content": "Be brief."}
USER = {"role": "user", "content": "Is 4 even?"}
YES = {"role": "assistant", "content": "Yes."}
NO = {"role": "assistant", "content": "No."}
MORE = {"role": "user", "content": "And 5?"}
FROM = [{"from": "human", "value": "Is 4 even?"}, {"from": "gpt", "value": "Yes."}]
CALL = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "even", "arguments": {"n": 4}}}]}
CALLED = {**CALL, "tool_calls": [{"type": "function", **CALL["tool_calls"][0]}]}
RESULT = {"role": "tool", "content": "true"}
PAIR = {"prompt": [USER], "chosen": [YES], "rejected": [NO]}
HH = "\n\nHuman: Is 4 even?\n\nAssistant: Yes.\n\nHuman: And 5?\n\nAssistant:"
LONG = [USER, YES, MORE]

SHAPES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    # LLaMA-Factory: the conversation, and each answer as one message
    (
        "preference-messages",
        {"conversations": FROM[:1], "chosen": FROM[1], "rejected": {"from": "gpt", "value": "No."}},
        PAIR,
    ),
    ("preference-messages", {"messages": [USER], "chosen": "Yes.", "rejected": "No."}, PAIR),
    ("preference-messages", {"messages": [USER], "chosen": [USER, YES], "rejected": [USER, NO]}, PAIR),
    ("preference-messages", {"messages": [USER, YES], "chosen": [USER, YES], "rejected": [USER, NO]}, PAIR),
    ("preference-messages", {"messages": [USER, NO], "chosen": [USER, YES], "rejected": [USER, NO]}, PAIR),
    (
        "preference-alpaca",
        {"instruction": "Is it even?", "input": "4", "chosen": "Yes.", "rejected": "No."},
        {"prompt": "Is it even?\n\n4", "chosen": "Yes.", "rejected": "No."},
    ),
    ("preference", {"prompt": "Is 4 even?", "chosen": YES, "rejected": NO}, PAIR),
    # ms-swift: the conversation ends with the chosen answer
    ("rejected-response", {"messages": [USER, YES], "rejected_response": "No."}, PAIR),
    (
        "rejected-response",
        {"messages": [SYSTEM, *LONG, NO], "rejected_response": "Yes."},
        {"prompt": [SYSTEM, *LONG], "chosen": [NO], "rejected": [YES]},
    ),
    ("rejected-response", {"messages": [USER, YES], "rejected_messages": [USER, NO]}, PAIR),
    ("rejected-response", {"messages": [USER, YES], "rejected_messages": [NO]}, PAIR),
    (
        "rejected-response",
        {"messages": [USER, CALL, RESULT, YES], "rejected_response": "No."},
        {"prompt": [USER, CALLED, RESULT], "chosen": [YES], "rejected": [NO]},
    ),
    ("chosen-messages", {"chosen_messages": [USER, YES], "rejected_messages": [USER, NO]}, PAIR),
    ("chosen-messages", {"prompt": "Is 4 even?", "chosen_messages": [YES], "rejected_messages": [NO]}, PAIR),
    (
        "chosen-messages",
        {"messages": [USER], "chosen_messages": json.dumps([YES]), "rejected_messages": json.dumps([NO])},
        PAIR,
    ),
    # Anthropic's HH: two whole texts
    (
        "transcripts",
        {"chosen": f"{HH} No.", "rejected": f"{HH} Yes.\n"},
        {"prompt": LONG, "chosen": [NO], "rejected": [YES]},
    ),
    (
        "unpaired-messages",
        {"messages": [USER, YES], "label": True},
        {"prompt": [USER], "completion": [YES], "label": True},
    ),
    (
        "unpaired-messages",
        {"conversations": FROM, "kto_tag": "false"},
        {"prompt": [USER], "completion": [YES], "label": False},
    ),
    (
        "unpaired-messages",
        {"conversations": [*FROM, {"from": "human", "value": "And 5?"}, {"from": "gpt", "value": "No."}], "label": 1},
        {"prompt": LONG, "completion": [NO], "label": True},
    ),
    (
        "unpaired-messages",
        {"messages": [USER, CALL, RESULT, YES], "label": 0},
        {"prompt": [USER], "completion": [CALLED, RESULT, YES], "label": False},
    ),
    (
        "unpaired-alpaca",
        {"instruction": "Is 4 even?", "input": "", "output": "Yes.", "kto_tag": True},
        {"prompt": "Is 4 even?", "completion": "Yes.", "label": True},
    ),
    (
        "unpaired-preference",
        {"prompt": "a", "completion": "b", "kto_tag": 0},
        {"prompt": "a", "completion": "b", "label": False},
    ),
    (
        "conversation",
        {"conversation": [{"human": "Is 4 even?", "assistant": "Yes."}, {"human": "And 5?", "assistant": "No."}]},
        {"messages": [*LONG, NO]},
    ),
    ("conversation", {"conversation": {"human": "Is 4 even?", "assistant": "Yes."}}, {"messages": [USER, YES]}),
    (
        "conversation",
        {"conversation": [{"system": "Be brief.", "input": "Is 4 even?", "output": "Yes."}]},
        {"messages": [SYSTEM, USER, YES]},
    ),
    (
        "conversation",
        {
            "conversation": [
                {"input": "Is 4 even?", "output": "Yes.", "output_with_loss": False},
                {"input": "And 5?", "output": "No."},
            ]
        },
        {"messages": [USER, {**YES, "weight": 0.0}, MORE, NO]},
    ),
    ("conversation", {"conversation": [["Is 4 even?", "Yes."], ["And 5?", "No."]]}, {"messages": [*LONG, NO]}),
    ("conversation", {"conversation": [USER, YES]}, {"messages": [USER, YES]}),
    ("messages", {"messages": [["Is 4 even?", "Yes."]]}, {"messages": [USER, YES]}),
    ("messages", {"messages": [USER, YES], "label": "parity"}, {"messages": [USER, YES]}),
    ("sharegpt", {"conversations": [{"human": "Is 4 even?", "assistant": "Yes."}]}, {"messages": [USER, YES]}),
]


@pytest.mark.parametrize(("name", "row", "expected"), SHAPES)
def test_a_shape_is_recognised_and_converted(name: str, row: dict[str, Any], expected: dict[str, Any]) -> None:
    assert recognise([row]) == name
    kind, converted = convert(row, name)
    assert converted == expected
    assert set(RECORD_COLUMNS[kind]) == set(converted)


def test_every_format_has_a_shape() -> None:
    assert {name for name, _, _ in SHAPES} >= {form.name for form in PREFERENCES}


BAD: list[tuple[str, dict[str, Any], str]] = [
    ("preference-messages", {"messages": [USER], "chosen": YES, "rejected": YES}, "'chosen' equals 'rejected'"),
    (
        "preference-messages",
        {"messages": [USER, YES], "chosen": YES, "rejected": NO},
        "'prompt' does not end with the user",
    ),
    (
        "preference-messages",
        {"messages": [USER], "chosen": USER, "rejected": NO},
        "'chosen' does not start with the assistant",
    ),
    (
        "preference-messages",
        {"messages": [USER], "chosen": {"text": "a"}, "rejected": NO},
        "'chosen' is an object, not text",
    ),
    (
        "rejected-response",
        {"messages": [USER, YES], "rejected_response": "Yes."},
        "'rejected_response' equals the answer in 'messages'",
    ),
    ("rejected-response", {"messages": [USER, YES], "rejected_response": None}, "'rejected_response' is null"),
    (
        "rejected-response",
        {"messages": [USER, YES], "rejected_messages": [MORE, NO]},
        "'rejected_messages' does not begin as 'messages' does",
    ),
    ("rejected-response", {"messages": [USER], "rejected_response": "No."}, "no assistant message"),
    (
        "chosen-messages",
        {"chosen_messages": [USER, YES], "rejected_messages": [MORE, NO]},
        "no 'prompt', and the answers do not begin alike",
    ),
    (
        "transcripts",
        {"chosen": f"{HH} No.", "rejected": "\n\nHuman: Is 6 even?\n\nAssistant: Yes."},
        "'chosen' and 'rejected' differ before their last turn",
    ),
    ("transcripts", {"chosen": f"{HH} No.", "rejected": f"{HH}"}, "a turn of Assistant in 'rejected' is empty"),
    (
        "transcripts",
        {"chosen": f"{HH} No.", "rejected": "No."},
        "'rejected' does not begin with a turn: Human: or Assistant:",
    ),
    (
        "transcripts",
        {"chosen": f"{HH} No.", "rejected": f"{HH} No.\n\nHuman: Oh."},
        "'rejected' does not end with the assistant",
    ),
    ("transcripts", {"chosen": f"{HH} No.", "rejected": f"{HH} No. "}, "'chosen' equals 'rejected'"),
    ("preference", {"chosen": "b", "rejected": "c"}, "no 'prompt'"),
    ("unpaired-messages", {"messages": [USER], "label": True}, "no assistant message"),
    ("unpaired-messages", {"messages": [USER, YES, MORE], "label": True}, "'messages' holds no more than the prompt"),
    ("unpaired-messages", {"messages": [USER, YES], "label": 3}, "'label' is not true or false"),
    (
        "unpaired-messages",
        {"messages": [USER, YES], "label": True, "kto_tag": False},
        "'label' and 'kto_tag' stand for the same and differ",
    ),
    (
        "unpaired-messages",
        {"messages": [USER, YES]},
        "the row is OpenAI messages (messages with role, content), unlike most",
    ),
    # a verdict is never dropped without a word
    (
        "messages",
        {"messages": [USER, YES], "label": False},
        "the row is unpaired preference (a conversation, label), unlike most",
    ),
    (
        "alpaca",
        {"instruction": "a", "output": "b", "kto_tag": False},
        "the row is unpaired preference (instruction, output, label), unlike most",
    ),
    ("conversation", {"conversation": [["a", "b"], "c"]}, "a message in 'conversation' is text, not an object"),
    ("conversation", {"conversation": [{"human": "a", "assistant": ""}]}, "a message of the assistant is empty"),
    ("conversation", {"conversation": [{"human": None, "assistant": "a"}]}, "a message of the user has no content"),
]


@pytest.mark.parametrize(("name", "row", "reason"), BAD)
def test_a_row_that_cannot_be_used_has_a_reason(name: str, row: dict[str, Any], reason: str) -> None:
    with pytest.raises(Unusable) as error:
        convert(row, name)
    assert error.value.reason == reason


def load(folder: Path, content: str, name: str = "rows.jsonl", **settings: Any) -> tuple[Dataset, Context]:
    (folder / name).write_text(content, encoding="utf-8")
    context = Context(folder=folder)
    if name.endswith(".json"):
        return load_json(JsonSettings(path=Path(name), **settings), context), context
    return jsonl(JsonlSettings(path=Path(name), **settings), context), context


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_texts_split_at_the_last_turn_are_said_to_be(tmp_path: Path) -> None:
    dataset, _ = load(tmp_path, lines({"chosen": f"{HH} No.", "rejected": f"{HH} Yes."}))
    assert "split at the assistant's last turn" in dataset.recognised


def test_a_format_that_the_recipe_names_may_leave_the_verdict_out(tmp_path: Path) -> None:
    dataset, _ = load(tmp_path, lines({"messages": [USER, YES], "label": False}), format="messages")
    assert (dataset.type, dataset.unused) == ("messages", {"label": 1})
    dataset, _ = load(tmp_path, lines({"messages": [USER, YES], "label": False}), ignore=("label",))
    assert (dataset.type, dataset.unused) == ("messages", {})


def test_what_to_write_for_a_trainer_that_takes_other_rows(tmp_path: Path) -> None:
    rows = lines({"messages": [USER, YES], "label": True}, {"messages": [USER, NO], "label": False})
    judged, _ = load(tmp_path, rows)
    assert 'pairs = "wanted"' in judged.instead["prompt-completion"]
    followed, context = load(tmp_path, rows, pairs="wanted")
    assert followed.train.rows == [{"prompt": [USER], "completion": [YES]}]
    context.ledger.check(0.0)
    pairs, _ = load(tmp_path, lines(PAIR))
    assert set(pairs.instead) == {"prompt-completion", "unpaired-preference"}


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (lines([USER, YES], [MORE, NO]), "rows.jsonl"),
        (lines([["Is 4 even?", "Yes."]], [["And 5?", "No."]]), "rows.jsonl"),
        (json.dumps([[USER, YES], [MORE, NO]]), "rows.json"),
        (json.dumps({"data": [[["Is 4 even?", "Yes."]], [["And 5?", "No."]]]}), "rows.json"),
        (
            "".join(
                json.dumps({"conversation": [one]}, indent=2) for one in (["Is 4 even?", "Yes."], ["And 5?", "No."])
            ),
            "rows.json",
        ),
    ],
    ids=["lists", "lists of pairs", "an array of lists", "an array of lists of pairs", "objects over several lines"],
)
def test_bare_conversations(tmp_path: Path, content: str, name: str) -> None:
    dataset, context = load(tmp_path, content, name)
    assert dict(dataset.train) == {f"{name}:1": {"messages": [USER, YES]}, f"{name}:2": {"messages": [MORE, NO]}}
    assert (dataset.type, context.ledger.dropped) == ("messages", 0)


@pytest.mark.parametrize(
    "content", [{"messages": [USER, YES]}, [USER, YES], {"conversation": [["Is 4 even?", "Yes."]]}]
)
@pytest.mark.parametrize("indent", [None, 2])
def test_one_object_a_file(tmp_path: Path, content: Any, indent: int | None) -> None:
    text = json.dumps(content, indent=indent)
    dataset, _ = load(tmp_path, text, "one.json")
    assert dict(dataset.train) == {"one.json:1": {"messages": [USER, YES]}}
    if indent is None:
        again, _ = load(tmp_path, text, "one.jsonl")
        assert again.train.rows == dataset.train.rows


def test_the_objects_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    for number, answer in enumerate((YES, NO)):
        (tmp_path / "rows" / f"{number}.json").write_text(json.dumps({"messages": [USER, answer]}, indent=1))
    dataset = load_json(JsonSettings(path=Path("rows")), Context(folder=tmp_path))
    assert dataset.train.ids == ["rows/0.json:1", "rows/1.json:1"]


def test_keys_of_turns_that_nothing_reads_are_named(tmp_path: Path) -> None:
    turn = {"human": "Is 4 even?", "assistant": "Yes.", "score": 3}
    dataset, _ = load(tmp_path, lines({"conversation": [turn], "conversation_id": 7}))
    assert dataset.unused == {"conversation[].score": 1, "conversation_id": 1}
    dataset, _ = load(
        tmp_path, lines({"conversations": FROM[:1], "chosen": {**FROM[1], "score": 3}, "rejected": "No."})
    )
    assert dataset.unused == {"chosen[].score": 1}


def test_steps_and_names_reach_the_turns(prepare: Any) -> None:
    said = "My address is ada@example.org."
    rows = [{"conversation": [{"human": said, "assistant": "Noted."}], "kto_tag": "true"}]
    dataset = prepare(rows, {"use": "personal-data", "action": "mask"})
    assert dataset.train.rows[0]["prompt"] == [{"role": "user", "content": "My address is [EMAIL]."}]
    renamed = {"columns": {"conversation": "talk"}, "message_keys": {"human": "frage", "assistant": "antwort"}}
    dataset = prepare([{"talk": [{"frage": "Is 4 even?", "antwort": "Yes."}]}], **renamed)
    assert dataset.train.rows == [{"messages": [USER, YES]}]
    judged = [{"messages": [USER, YES], "kto_tag": tag} for tag in (True, False)]
    dataset = prepare(judged, {"use": "deduplicate"})
    assert len(dataset.train) == 1


def test_every_title_differs() -> None:
    assert len({form.title for form in FORMATS.values()}) == len(FORMATS)
