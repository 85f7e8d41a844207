"""What a row says beside its text is read, named, or refuses the row."""

import json
from pathlib import Path
from typing import Any

import pytest

from tunesmith import Context, DataError, Dataset, RecipeError
from tunesmith_data import checks, mix
from tunesmith_data.arrow import of_row
from tunesmith_data.formats import Unusable, convert
from tunesmith_data.loaders import csv, jsonl, parquet
from tunesmith_data.settings import CsvSettings, JsonlSettings, MixSettings, ParquetSettings

USER = {"role": "user", "content": "2 + 2?"}
FOUR = {"role": "assistant", "content": "4"}
SYSTEM = {"role": "system", "content": "Be brief."}
ADD = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 2}}}
CALLED = {"role": "assistant", "content": "", "tool_calls": [CALL]}
RESULT = {"role": "tool", "content": "4"}


def load(folder: Path, *rows: Any, context: Context | None = None, **settings: Any) -> Dataset:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return jsonl(JsonlSettings(path=Path("rows.jsonl"), **settings), context or Context(folder=folder))


def talk(*messages: Any) -> dict[str, Any]:
    return {"messages": list(messages)}


def read(*messages: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = convert(talk(*messages), "messages")[1]["messages"]
    return found


def why(row: dict[str, Any], name: str = "messages") -> str:
    with pytest.raises(Unusable) as error:
        convert(row, name)
    return error.value.reason


# --- weights ----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("flags", "weight"),
    [
        ({"loss": False}, 0.0),
        ({"train": False}, 0.0),
        ({"train_on_turn": False}, 0.0),
        ({"trainable": False}, 0.0),
        ({"weight": 0}, 0.0),
        ({"weight": 0.0}, 0.0),
        ({"loss_weight": 0.25}, 0.25),
        ({"weight": 2}, 2.0),
        ({"mask": True}, 0.0),
        ({"masked": 1}, 0.0),
        ({"loss_mask": 0}, 0.0),
        ({"weight": 0, "loss": False}, 0.0),
        ({"loss": True}, None),
        ({"weight": 1}, None),
        ({"mask": False}, None),
        ({"weight": None}, None),
    ],
)
def test_a_turn_may_say_how_much_it_counts(flags: dict[str, Any], weight: float | None) -> None:
    expected = FOUR if weight is None else {**FOUR, "weight": weight}
    assert read(USER, {**FOUR, **flags}, USER, FOUR) == [USER, expected, USER, FOUR]


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ({"weight": -1}, "'weight' of a message is negative"),
        ({"weight": "0"}, "'weight' of a message is text, not a number, true or false"),
        ({"weight": float("nan")}, "'weight' of a message is not a finite number"),
        ({"weight": float("inf")}, "'weight' of a message is not a finite number"),
        ({"weight": 1e9}, "'weight' of a message is not between 1e-06 and 1e+06"),
        ({"weight": 10**400}, "'weight' of a message is not between 1e-06 and 1e+06"),
        ({"weight": 1e-9}, "'weight' of a message is not between 1e-06 and 1e+06"),
        ({"loss": [1]}, "'loss' of a message is a list, not a number, true or false"),
        ({"mask": 0.5}, "'mask' of a message is a number, not true or false"),
        ({"mask": "user"}, "'mask' of a message is text, not true or false"),
        ({"loss": True, "mask": True}, "'loss' and 'mask' of a message say different things"),
        ({"weight": 1, "train": 1, "loss": 0}, "'weight' and 'loss' of a message say different things"),
        ({"train_detail": [{"begin": 0}]}, None),
    ],
)
def test_a_weight_that_is_none_refuses_its_row(flags: dict[str, Any], reason: str | None) -> None:
    given = why(talk(USER, {**FOUR, **flags}))
    assert given == reason if reason else given.startswith("a message has 'train_detail': spans of a message")


def test_only_answers_are_trained() -> None:
    assert read({**SYSTEM, "weight": 0}, {**USER, "loss": False}, FOUR) == [
        {**SYSTEM, "weight": 0.0},
        {**USER, "weight": 0.0},
        FOUR,
    ]
    assert why(talk({**USER, "train": True}, FOUR)) == (
        "'train' asks to train on a message of the user; only answers are trained"
    )


def test_a_conversation_of_which_nothing_is_trained_is_dropped_and_no_loss(tmp_path: Path) -> None:
    context = Context(folder=tmp_path, max_lost_rows=0)
    hidden = [USER, {**FOUR, "loss": False}]
    dataset = load(
        tmp_path,
        talk(USER, FOUR),
        talk(*hidden),
        {**talk(USER, {**FOUR, "content": "four"}), "weight": 0},
        context=context,
    )
    assert dataset.train.ids == ["rows.jsonl:1"]
    assert context.ledger.reasons() == {"every turn of the assistant has weight 0": 1, "the row's weight is 0": 1}
    context.check_rows()
    assert why({"prompt": [USER], "completion": hidden[1:]}, "prompt-completion") == (
        "every turn of the assistant has weight 0"
    )


@pytest.mark.parametrize("name", ["weight", "loss_weight"])
def test_a_row_may_say_how_much_it_counts(name: str, tmp_path: Path) -> None:
    rows = [{"prompt": "a", "completion": "b", name: 0.5}, {"prompt": "c", "completion": "d", name: 1}]
    assert [row.get("weight") for row in load(tmp_path, *rows).train.rows] == [0.5, None]
    (tmp_path / "rows.csv").write_text(f"text,label,{name}\na,x,0.5\nb,y,\nc,y,two\n", encoding="utf-8")
    context = Context(folder=tmp_path)
    data = csv(CsvSettings(path=Path("rows.csv")), context)
    assert [row.get("weight") for row in data.train.rows] == [0.5, None]
    assert context.ledger.reasons() == {f"{name!r} is text, not a number, true or false": 1}
    ignoring = csv(CsvSettings(path=Path("rows.csv"), ignore=(name,)), Context(folder=tmp_path))
    assert list(ignoring.train.rows) == [{"text": text, "label": label} for text, label in ("ax", "by", "cy")]


# --- the system's words, the past -------------------------------------------------------------
@pytest.mark.parametrize("history", [[["How cold is Oslo?", "-2."]], '[["How cold is Oslo?", "-2."]]'])
def test_alpaca_keeps_its_past_and_its_system_prompt(history: Any, tmp_path: Path) -> None:
    row = {"instruction": "And in summer?", "input": "", "output": "18.", "system": "Weather.", "history": history}
    plain = {"instruction": "Why?", "input": "", "output": "Clouds.", "system": "", "history": []}
    dataset = load(tmp_path, row, plain)
    assert list(dataset.train.rows) == [
        {
            "prompt": [
                {"role": "system", "content": "Weather."},
                {"role": "user", "content": "How cold is Oslo?"},
                {"role": "assistant", "content": "-2."},
                {"role": "user", "content": "And in summer?"},
            ],
            "completion": [{"role": "assistant", "content": "18."}],
        },
        {
            "prompt": [{"role": "user", "content": "Why?"}],
            "completion": [{"role": "assistant", "content": "Clouds."}],
        },
    ]
    assert dataset.unused == {}


def test_the_past_of_a_conversation_is_read_and_not_trained() -> None:
    past = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]
    for history in ([["Hello", "Hi"]], past):
        _, row = convert({**talk(SYSTEM, USER, FOUR), "history": history}, "messages")
        assert row["messages"] == [SYSTEM, past[0], {**past[1], "weight": 0.0}, USER, FOUR]


@pytest.mark.parametrize("name", ["system", "system_prompt", "system_message"])
def test_a_conversation_takes_the_system_prompt_of_its_row(name: str) -> None:
    row = {"conversations": [{"from": "human", "value": "2 + 2?"}, {"from": "gpt", "value": "4"}], name: "Be brief."}
    assert convert(row, "sharegpt")[1] == {"messages": [SYSTEM, USER, FOUR]}
    assert convert({**talk(SYSTEM, USER, FOUR), name: "Be brief."}, "messages")[1] == talk(SYSTEM, USER, FOUR)
    assert why({**talk(SYSTEM, USER, FOUR), name: "Be long."}) == (
        "the row has a system prompt and another system message"
    )


@pytest.mark.parametrize(
    ("beside", "reason"),
    [
        ({"history": "yesterday"}, "'history' is text, not a list of turns"),
        ({"history": [["a"]]}, "a turn in 'history' is no pair of what the user and the assistant said"),
        ({"history": [["a", ""]]}, "the assistant in 'history' is empty"),
        ({"history": [["a", None]]}, "the assistant in 'history' is null, not text"),
        ({"history": [USER]}, "user and assistant do not alternate"),
        ({"system": 3}, "'system' is a number, not text"),
        ({"system": "a", "system_prompt": "b"}, "'system' and 'system_prompt' stand for the same and differ"),
        ({"tools": "none"}, "'tools' is text, not a list of tools or JSON of one"),
        ({"tools": [3]}, "a tool in 'tools' is a number, not an object"),
        ({"tools": [{}]}, "a tool in 'tools' has no name"),
        ({"tools": [{"type": "web", "function": {"name": "a"}}]}, None),
        ({"tools": [ADD], "functions": [{"name": "b"}]}, "'tools' and 'functions' stand for the same and differ"),
        ({"tools": [{"name": "a", "x": float("nan")}]}, "a tool in 'tools' holds what JSON cannot write"),
        ({"chat_template_kwargs": [1]}, "'chat_template_kwargs' is a list, not an object"),
        ({"chat_template_kwargs": {"tools": []}}, "'chat_template_kwargs' may not set 'tools'"),
    ],
)
def test_what_is_beside_a_conversation_and_cannot_be_read_refuses_the_row(
    beside: dict[str, Any], reason: str | None
) -> None:
    given = why({"instruction": "a", "output": "b", **beside}, "alpaca")
    assert given == (reason or "a tool in 'tools' is of another type than 'function'")


# --- tools ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("tools", [ADD]),
        ("tools", json.dumps([ADD])),
        ("tools", [json.dumps(ADD)]),
        ("tools", [ADD["function"]]),
        ("functions", [ADD["function"]]),
        ("functions", json.dumps(ADD["function"])),
    ],
)
def test_declared_tools_come_in_one_form(column: str, value: Any) -> None:
    assert convert({**talk(USER, FOUR), column: value}, "messages")[1] == {**talk(USER, FOUR), "tools": [ADD]}


@pytest.mark.parametrize(
    "turns",
    [
        [{"role": "assistant", "content": None, "tool_calls": [CALL]}, RESULT],
        [{"role": "assistant", "tool_calls": json.dumps([CALL])}, RESULT],
        [
            {"role": "assistant", "content": "", "function_call": {"name": "add", "arguments": '{"a": 2}'}},
            {"role": "function", "content": "4"},
        ],
        [
            {"role": "assistant", "tool_calls": [{"name": "add", "arguments": '{"a": 2}'}]},
            {**RESULT, "role": "ipython"},
        ],
        [
            {"from": "function_call", "value": '{"name": "add", "arguments": {"a": 2}}'},
            {"from": "observation", "value": "4"},
        ],
        [{"role": "tool_call", "content": [{"name": "add", "arguments": {"a": 2}}]}, {"role": "tool", "content": 4}],
    ],
)
def test_calls_and_results_come_in_one_form(turns: list[Any]) -> None:
    assert read(USER, *turns, FOUR) == [USER, CALLED, RESULT, FOUR]


def test_several_calls_have_several_results() -> None:
    ids = [{**CALL, "id": name} for name in "ab"]
    results = [{**RESULT, "tool_call_id": name, "name": "add"} for name in "ab"]
    turns = [USER, {**CALLED, "tool_calls": ids}, *results, FOUR]
    assert read(*turns) == turns
    single = {"from": "function_call", "value": '{"name": "add", "arguments": {"a": 2}}'}
    said = {"from": "gpt", "value": "I add."}
    assert read(USER, said, single, single, RESULT, RESULT, FOUR) == [
        USER,
        {"role": "assistant", "content": "I add.", "tool_calls": [CALL, CALL]},
        RESULT,
        RESULT,
        FOUR,
    ]


def test_a_result_is_text_whatever_it_is() -> None:
    weather = {"city": "Zürich", "degrees": [1, None]}
    assert read(USER, CALLED, {"role": "tool", "content": weather}, FOUR)[2] == {
        "role": "tool",
        "content": '{"city": "Zürich", "degrees": [1, null]}',
    }
    assert read(USER, CALLED, {"role": "tool", "content": ""}, FOUR)[2] == {"role": "tool", "content": ""}
    parts = [{"type": "text", "text": "4"}]
    assert read(USER, CALLED, {"role": "tool", "content": parts}, FOUR)[2] == RESULT


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        ([USER, RESULT, FOUR], "a tool's result follows the user, not a call"),
        ([USER, CALLED, USER, FOUR], "the user follows a tool call, not its result"),
        ([USER, CALLED, RESULT, USER], "the user follows a tool's result, not the assistant"),
        ([USER, CALLED, FOUR], "user and assistant do not alternate"),
        ([{**USER, "tool_calls": [CALL]}, FOUR], "a message of the user calls a tool"),
        ([USER, {**CALLED, "tool_calls": "add"}], "the tool calls of a message are text, not a list"),
        ([USER, {**CALLED, "tool_calls": ["add"]}], "a tool call is text, not an object with a name and arguments"),
        (
            [USER, {"role": "function_call", "content": "{'name': 'add'}"}],
            "the tool calls of a message are text, not a list",
        ),
        ([USER, {"role": "function_call", "content": ""}], "a message of the function call has no call"),
        (
            [USER, {**CALLED, "tool_calls": [{"name": "add", "arguments": "{a: 1}"}]}],
            "the arguments of a tool call are text that is not JSON",
        ),
        (
            [USER, {**CALLED, "tool_calls": [{"name": "add", "arguments": "[1]"}]}],
            "the arguments of a tool call are a list, not an object",
        ),
        (
            [USER, {**CALLED, "tool_calls": [{"name": "add", "arguments": {"a": float("inf")}}]}],
            "the arguments of a tool call holds what JSON cannot write",
        ),
        ([USER, {**CALLED, "tool_calls": [{"function": 3}]}], "the function of a tool call is a number, not an object"),
        (
            [USER, {**CALLED, "tool_calls": [{**CALL, "id": "a"}]}, {**RESULT, "tool_call_id": "b"}, FOUR],
            "'tool_call_id' names no call of the turn before it",
        ),
    ],
)
def test_a_call_that_cannot_be_read_refuses_its_row(turns: list[Any], reason: str) -> None:
    assert why(talk(*turns)) == reason


def test_a_prompt_may_end_with_a_result() -> None:
    row = {"prompt": [USER, CALLED, RESULT], "completion": "4", "tools": [ADD]}
    assert convert(row, "prompt-completion")[1] == {**row, "completion": [FOUR]}


def test_arguments_that_other_rows_have_are_not_written_into_a_call(tmp_path: Path) -> None:
    pa, parquet_file = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    call = {"type": "function", "function": {"name": "add", "arguments": {"b": 3}}}
    tool = {"name": "sub", "parameters": {"type": "object", "properties": {"b": {"type": "number"}}}}
    rows = [
        {**talk(USER, CALLED, RESULT, FOUR), "tools": [ADD["function"]]},
        {**talk(USER, {**CALLED, "tool_calls": [call]}, RESULT, FOUR), "tools": [tool]},
    ]
    rows[0]["tools"][0] = {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "number"}}}}
    parquet_file.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    wanted = load(tmp_path, *rows).train.rows
    data = parquet(ParquetSettings(path=Path("rows.parquet")), Context(folder=tmp_path))
    assert list(data.train.rows) == list(wanted)
    datasets = pytest.importorskip("datasets")
    assert [of_row(row) for row in datasets.Dataset.from_list(rows)] == rows


# --- reasoning --------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "answer",
    [
        {**FOUR, "reasoning_content": "two and two"},
        {**FOUR, "reasoning": "two and two"},
        {**FOUR, "thinking": "two and two", "reasoning": ""},
        {
            "role": "assistant",
            "content": [{"type": "thinking", "thinking": "two and two"}, {"type": "text", "text": "4"}],
        },
        {
            "role": "assistant",
            "content": [{"type": "reasoning", "text": "two and two"}, {"type": "text", "value": "4"}],
        },
    ],
)
def test_reasoning_comes_in_one_form_or_is_left_out(answer: dict[str, Any], tmp_path: Path) -> None:
    assert read(USER, answer) == [USER, {**FOUR, "reasoning_content": "two and two"}]
    dataset = load(tmp_path, talk(USER, answer), talk(USER, {**FOUR, "content": "four"}), reasoning="drop")
    assert [row["messages"] for row in dataset.train.rows] == [[USER, FOUR], [USER, {**FOUR, "content": "four"}]]
    assert dataset.notes == ('the reasoning of 1 rows is left out: `reasoning = "drop"`',)
    assert dataset.unused == {}


def test_a_row_may_have_the_reasoning_of_its_answer(tmp_path: Path) -> None:
    row = {"prompt": "2 + 2?", "completion": "4", "thinking": "two and two"}
    (found,) = load(tmp_path, row).train.rows
    assert found == {"prompt": [USER], "completion": [{**FOUR, "reasoning_content": "two and two"}]}
    (found,) = load(tmp_path, row, reasoning="drop").train.rows
    assert found == {"prompt": "2 + 2?", "completion": "4"}
    assert why({**talk(USER, FOUR), "thinking": "a"}) == (
        "the row has reasoning and no plain answer that it belongs to"
    )


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ({**USER, "reasoning": "a"}, "a message of the user has reasoning"),
        ({**FOUR, "reasoning": 3}, "'reasoning' of a message is a number, not text"),
        ({**FOUR, "reasoning": "a", "thinking": "b"}, "'reasoning' and 'thinking' stand for the same and differ"),
        (
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "a"}]},
            "a message of the assistant is empty",
        ),
        (
            {"role": "assistant", "content": [{"type": "text", "data": "a"}]},
            "a part of a message has no text under 'text', 'content', 'value'",
        ),
        ({"role": "assistant", "content": [4]}, "a message has a part that is a number, not an object"),
        ({"role": "assistant", "content": [{}]}, "a message has a part without a type"),
        (
            {"role": "assistant", "content": [{"type": "tool_use"}]},
            "a message has a part of type 'tool_use', which is not text",
        ),
        ({"role": "assistant", "content": "a", "value": "b"}, "'content' and 'value' stand for the same and differ"),
        ({"role": "user", "from": "gpt", "content": "a"}, "'role' and 'from' stand for the same and differ"),
    ],
)
def test_reasoning_and_parts_that_cannot_be_read_refuse_their_row(message: dict[str, Any], reason: str) -> None:
    assert why(talk(USER, FOUR, USER, message) if message.get("role") != "user" else talk(message, FOUR)) == reason


@pytest.mark.parametrize("key", ["text", "value", "content"])
def test_the_text_of_a_part_stands_under_any_of_three_keys(key: str) -> None:
    assert read({"role": "user", "content": [{"type": "text", key: "2 + 2?"}]}, FOUR) == [USER, FOUR]


# --- media ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("row", "named"),
    [
        ({**talk(USER, FOUR), "images": ["a.jpg"]}, "images"),
        ({**talk(USER, FOUR), "image": "a.jpg"}, "image"),
        ({**talk(USER, FOUR), "audios": ["a.wav"]}, "audios"),
        ({**talk(USER, FOUR), "videos": [b"x".hex()]}, "videos"),
        (talk({**USER, "images": ["a.jpg"]}, FOUR), "images"),
        ({"text": "a cat", "image": "a.jpg"}, "image"),
    ],
)
def test_media_are_refused_and_may_be_ignored(row: dict[str, Any], named: str, tmp_path: Path) -> None:
    context = Context(folder=tmp_path)
    load(tmp_path, row, context=context)
    (reason,) = context.ledger.reasons()
    assert f"{named!r}: no part that reads" in reason
    assert "`ignore` can leave it out" in reason
    ignoring = Context(folder=tmp_path)
    assert len(load(tmp_path, row, context=ignoring, ignore=(named,)).train) == 1


def test_marks_of_media_in_a_text_are_refused_and_may_be_plain_text(tmp_path: Path) -> None:
    rows = [
        talk({"role": "user", "content": "<image>What is it?"}, FOUR),
        talk({"role": "user", "content": "Write <video></video>."}, FOUR),
        {"messages": [{"role": "user", "content": "Hear <|audio|>"}, FOUR]},
    ]
    context = Context(folder=tmp_path)
    assert load(tmp_path, *rows, context=context).train.ids == ["rows.jsonl:2"]
    assert sorted(context.ledger.reasons()) == [
        f"'{mark}' in a text stands for what nothing installed here reads; "
        f'`ignore = ["{name}"]` takes it as plain text'
        for mark, name in (("<image>", "<image>"), ("<|audio|>", "<audio>"))
    ]
    assert len(load(tmp_path, *rows, ignore=("<image>", "<audio>")).train) == 3
    assert load(tmp_path, {"text": "<image> a"}).train.rows[0] == {"text": "<image> a"}


# --- greeting ---------------------------------------------------------------------------------
def test_a_greeting_is_kept_unless_a_setting_refuses_it(tmp_path: Path) -> None:
    rows = [talk(SYSTEM, {**FOUR, "content": "Welcome!"}, USER, FOUR), talk(SYSTEM, USER, FOUR)]
    assert [row["messages"] for row in load(tmp_path, *rows).train.rows] == [row["messages"] for row in rows]
    context = Context(folder=tmp_path)
    assert load(tmp_path, *rows, context=context, greeting="drop").train.ids == ["rows.jsonl:2"]
    assert context.ledger.reasons() == {"the conversation starts with the assistant": 1}


# --- what nothing reads -----------------------------------------------------------------------
def test_what_nothing_reads_is_named_with_its_rows(tmp_path: Path) -> None:
    rows = [
        {**talk({**USER, "id": "a", "name": "Ann"}, FOUR), "source": "web", "empty": ""},
        {
            **talk(
                {**USER, "content": [{"type": "text", "text": "1?", "cache": 1}]},
                {**CALLED, "tool_calls": [{**CALL, "index": 3}]},
            ),
            "source": "web",
            "lang": "de",
        },
        {"messages": "broken", "other": 1},
    ]
    dataset = load(tmp_path, *rows, keep=("source",), context=Context(folder=tmp_path, max_lost_rows=1))
    assert dataset.unused == {
        "messages[].id": 1,
        "messages[].name": 1,
        "messages[].content[].cache": 1,
        "messages[].tool_calls[].index": 1,
        "lang": 1,
    }
    assert [row["source"] for row in dataset.train.rows] == ["web", "web"]


def test_a_column_whose_name_another_takes_is_named(tmp_path: Path) -> None:
    row = {"question": "a", "answer": "b", "prompt": "old"}
    dataset = load(tmp_path, row, columns={"prompt": "question", "completion": "answer"})
    assert dataset.unused == {"prompt (the file's own: `columns` takes question for it)": 1}


# --- names ------------------------------------------------------------------------------------
def test_columns_keys_and_roles_may_have_any_names(tmp_path: Path) -> None:
    row = {
        "talk": [{"speaker": "Customer", "said": "2 + 2?"}, {"speaker": "agent", "said": "4", "trained": 0.5}],
        "apis": [ADD],
        "past": [["Hello", "Hi"]],
        "rules": "Be brief.",
    }
    dataset = load(
        tmp_path,
        row,
        columns={"messages": "talk", "tools": "apis", "history": "past", "system": "rules"},
        message_keys={"role": "speaker", "content": "said", "weight": "trained"},
        roles={"Customer": "user", "agent": "assistant"},
    )
    past = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi", "weight": 0.0}]
    assert list(dataset.train.rows) == [{**talk(SYSTEM, *past, USER, {**FOUR, "weight": 0.5}), "tools": [ADD]}]
    assert dataset.unused == {}


@pytest.mark.parametrize(
    ("settings", "message", "fix"),
    [
        (
            {"message_keys": {"content": "utterence"}},
            "no row has 'utterence', which `message_keys` names",
            "'utterance'",
        ),
        ({"roles": {"custmer": "user"}}, "no row has 'custmer', which `roles` names", "'customer'"),
        ({"ignore": ("idd",)}, "no row has 'idd', which `ignore` names", "'id'"),
        ({"ignore": ("<image>",)}, "no row has '<image>', which `ignore` names", "Take it out of `ignore`."),
    ],
)
def test_a_name_that_no_row_has_ends_with_the_nearest(
    settings: dict[str, Any], message: str, fix: str, tmp_path: Path
) -> None:
    row = talk({"role": "customer", "utterance": "a", "id": 1}, FOUR)
    good = {"message_keys": {"content": "utterance"}, "roles": {"customer": "user"}}
    with pytest.raises(DataError) as error:
        load(tmp_path, row, **{**good, **settings})
    assert str(error.value).startswith(message) or message in str(error.value)
    assert fix in (error.value.fix or "")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"columns": {"role": "speaker"}}, "`columns` names 'role', which is a key of a message"),
        ({"columns": {"toolz": "apis"}}, "`columns` names the unknown column 'toolz' on its left side"),
        ({"message_keys": {"rolle": "speaker"}}, "`message_keys` names the unknown key of a message 'rolle'"),
        ({"message_keys": {"role": "who", "content": "who"}}, "`message_keys` gives 'who' two names"),
        ({"ignore": ("id",), "keep": ("id",)}, "`ignore` leaves out 'id', which `keep` names"),
    ],
)
def test_a_plan_refuses_names_that_cannot_be_right(settings: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}\n', encoding="utf-8")
    with pytest.raises(RecipeError) as error:
        checks.jsonl(JsonlSettings(path=Path("rows.jsonl"), **settings), tmp_path)
    assert message in str(error.value)
    assert error.value.fix


# --- sets together ----------------------------------------------------------------------------
def test_a_mix_carries_all_that_its_rows_say(tmp_path: Path) -> None:
    asked = {"role": "user", "content": "Hello"}
    talking = {**talk(USER, {**FOUR, "reasoning_content": "two and two"}), "tools": [ADD], "weight": 0.5, "id": 3}
    past = {"instruction": "2 + 2?", "output": "4", "history": [["Hello", "Hi"]], "chat_template_kwargs": {"a": 1}}
    (tmp_path / "one").mkdir()
    sources = {
        "one": lambda: load(tmp_path / "one", talking, context=Context(folder=tmp_path / "one")),
        "two": lambda: load(tmp_path, past, reasoning="drop"),
    }
    data = mix.load(MixSettings(), Context(folder=tmp_path, sources=sources))
    found = {row.pop("task"): row for row in map(dict, data.train.rows)}
    assert found == {
        "one": {key: value for key, value in talking.items() if key != "id"},
        "two": {
            # what a prompt says is not trained when it becomes a part of a conversation
            **talk(asked, {"role": "assistant", "content": "Hi", "weight": 0.0}, USER, FOUR),
            "chat_template_kwargs": {"a": 1},
        },
    }
    assert data.unused == {"one/id": 1}
    assert data.notes == ('two: the reasoning of 0 rows is left out: `reasoning = "drop"`',)


def test_rows_that_say_more_make_all_of_a_set_conversations(tmp_path: Path) -> None:
    plain = {"prompt": "a", "completion": "b"}
    for further in ({"system": "Be brief."}, {"tools": [ADD]}, {"thinking": "hm"}, {"chat_template_kwargs": {"a": 1}}):
        dataset = load(tmp_path, plain, {"prompt": "c", "completion": "d", **further})
        assert all(isinstance(row["prompt"], list) for row in dataset.train.rows), further


def test_a_turn_that_nothing_answers_is_told(tmp_path: Path) -> None:
    data = load(tmp_path, talk(USER, FOUR, {"role": "user", "content": "Thanks."}), talk(USER, FOUR))
    assert any("1 conversation ends with a turn that no answer follows" in note for note in data.notes)
    assert not load(tmp_path, talk(USER, FOUR)).notes


def test_the_advice_on_columns_is_of_these_columns_and_works(tmp_path: Path) -> None:
    rows = [{"query": f"{n} + 1?", "response": str(n + 1), "id": n} for n in range(2)]
    with pytest.raises(DataError) as error:
        load(tmp_path, *rows)
    assert 'columns = {prompt = "query", completion = "response"}' in error.value.fix
    assert len(load(tmp_path, *rows, columns={"prompt": "query", "completion": "response"}).train) == 2
