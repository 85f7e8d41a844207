"""The steps on rows as a loader reads them, from a file to a data set."""

from __future__ import annotations

from typing import Any

import pytest

from tunesmith import Context, DataError, Dataset, Registry
from tunesmith.testing import check_plugin
from tunesmith.testing.check import failures


def texts(data: Dataset) -> list[str]:
    return [row["text"] for row in data.train.rows]


def fates(context: Context) -> list[tuple[str, str, str]]:
    return [(entry.row, entry.reason, entry.detail) for entry in context.ledger.entries]


# --- normalise --------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "settings", "expected", "why"),
    [
        ("e\u0301", {}, "é", ["Unicode NFC"]),
        ("ﬁne", {"unicode": "NFKC"}, "fine", ["Unicode NFKC"]),
        ("e\u0301", {"unicode": "keep"}, "e\u0301", []),
        (" a\u00a0b \r\nc  ", {}, "a b\nc", ["whitespace"]),
        ("    x = 1\n    y = 2", {}, "x = 1\n    y = 2", ["whitespace"]),
        ("a\n\n b\tc", {"whitespace": "collapse"}, "a b c", ["whitespace"]),
        (" a ", {"whitespace": "keep"}, " a ", []),
        ("a\0b\u200b\ufeff\u202ec\td", {}, "abc\td", ["control characters"]),
        ("a\ud800b", {}, "a\ufffdb", ["lone surrogates"]),
        ("👩\u200d🚀", {}, "👩\u200d🚀", []),
        ("plain", {}, "plain", []),
    ],
)
def test_normalise(
    text: str, settings: dict[str, Any], expected: str, why: list[str], prepare: Any, context: Context
) -> None:
    data = prepare([{"text": text}], {"use": "normalise", **settings})
    assert texts(data) == [expected]
    assert [reason.partition(": ")[2] for reason in context.ledger.steps[0].reasons] == why
    assert [event.why for event in data.train.history[0]] == ([", ".join(why)] if why else [])


def test_normalise_reaches_into_conversations_and_leaves_labels_alone(prepare: Any) -> None:
    messages = [{"role": "user", "content": "hi "}, {"role": "assistant", "content": [{"type": "text", "text": " yo"}]}]
    (row,) = prepare([{"messages": messages}], {"use": "normalise"}).train.rows
    assert [message["content"] for message in row["messages"]] == ["hi", "yo"]
    (row,) = prepare([{"text": "a ", "label": "b "}], {"use": "normalise"}).train.rows
    assert row == {"text": "a", "label": "b "}
    (row,) = prepare([{"text": "a ", "label": "b "}], {"use": "normalise", "columns": ["label"]}).train.rows
    assert row == {"text": "a ", "label": "b"}


def test_a_column_that_no_row_has_is_refused(prepare: Any) -> None:
    with pytest.raises(DataError, match="no row has the column 'txt' that the step 'normalise' names") as refused:
        prepare([{"text": "a"}], {"use": "normalise", "columns": ["txt"]})
    assert refused.value.fix == "Did you mean 'text'?"


# --- deduplicate ------------------------------------------------------------------------------
def test_exact_duplicates_ignore_case_and_blanks(prepare: Any, context: Context) -> None:
    rows = [{"text": "One two."}, {"text": "one  TWO."}, {"text": "one two"}]
    assert texts(prepare(rows, {"use": "deduplicate"})) == ["One two.", "one two"]
    assert fates(context) == [("rows.jsonl:2", "deduplicate: duplicate", "of rows.jsonl:1")]
    assert texts(prepare(rows, {"use": "deduplicate", "ignore": ["case", "whitespace", "punctuation"]})) == ["One two."]
    assert len(prepare(rows, {"use": "deduplicate", "ignore": []}).train) == 3


def test_equal_texts_with_unlike_labels_are_told_apart(prepare: Any, context: Context) -> None:
    rows = [{"text": "a b", "label": "x"}, {"text": "a b", "label": "y"}, {"text": "A b", "label": "x"}]
    prepare(rows, {"use": "deduplicate"})
    assert [reason for _, reason, _ in fates(context)] == [
        "deduplicate: duplicate with another label",
        "deduplicate: duplicate",
    ]


SENTENCE = "the old river runs down from the hills past the mill and the church to the sea near the town"
WORDS = SENTENCE.split()


def test_near_duplicates_share_most_of_their_n_grams(prepare: Any, context: Context) -> None:
    base, near, far = WORDS, [*WORDS[:-1], "city"], list(reversed(WORDS))
    rows = [{"text": " ".join(words)} for words in (base, near, far)]
    data = prepare(rows, {"use": "deduplicate", "method": "minhash"})
    assert texts(data) == [rows[0]["text"], rows[2]["text"]]
    ((row, reason, detail),) = fates(context)
    grams = [{" ".join(words[i : i + 3]) for i in range(len(words) - 2)} for words in (base, near)]
    jaccard = len(grams[0] & grams[1]) / len(grams[0] | grams[1])
    assert (row, reason) == ("rows.jsonl:2", "deduplicate: near duplicate")
    assert float(detail.split()[0]) == pytest.approx(jaccard, abs=0.1)
    assert detail.endswith("like rows.jsonl:1")


def test_a_held_out_row_that_repeats_a_training_row_is_an_overlap(prepare: Any, context: Context) -> None:
    text = " ".join(WORDS)
    held = [{"text": text.upper()}, {"text": f"{text} today"}, {"text": "something else"}, {"text": "Something else"}]
    data = prepare([{"text": text}], {"use": "deduplicate", "method": "minhash"}, held=held)
    assert [row["text"] for row in data.validation.rows] == ["something else"]
    assert [reason for _, reason, _ in fates(context)] == [
        "deduplicate: overlap with the training rows",
        "deduplicate: near overlap with the training rows",
        "deduplicate: duplicate",
    ]


# --- groups -----------------------------------------------------------------------------------
@pytest.mark.parametrize("duplicates", ["drop", "keep"])
def test_groups_stay_on_one_side(duplicates: str, prepare: Any, context: Context) -> None:
    rows = [{"text": f"row {number % 37}", "who": f"customer {number % 9}"} for number in range(120)]
    rows.append({"text": "nobody's", "who": None})
    data = prepare(rows, group="who", validation=0.3, duplicates=duplicates)
    who = {f"rows.jsonl:{number}": row["who"] for number, row in enumerate(rows, 1)}
    sides = [{who[name] for name in part.ids} for part in (data.train, data.validation)]
    assert sides[0]
    assert sides[0] & sides[1] == set()
    contents = [{row["text"] for row in part.rows} for part in (data.train, data.validation)]
    assert contents[0] & contents[1] == set()
    assert ("rows.jsonl:121", "no 'who', which `group` names", "") in fates(context)
    # with duplicates kept, rows of one text tie their customers together, here all of them
    assert bool(sides[1]) is (duplicates == "drop")


# --- the contract -----------------------------------------------------------------------------
def test_every_step_passes_the_kit(registry: Registry) -> None:
    assert failures(check_plugin("tunesmith-data", registry)) == []


# --- all texts of a conversation ----------------------------------------------------------------
MAIL = "ann@example.org"
CALLING: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Write to her."},
        {
            "role": "assistant",
            "content": "",
            "reasoning_content": f"She is {MAIL}",
            "tool_calls": [{"function": {"name": "send", "arguments": f'{{"to": "{MAIL}", "text": "Hi"}}'}}],
        },
        {"role": "tool", "content": f"sent to {MAIL}"},
        {"role": "assistant", "content": [{"type": "thinking", "thinking": MAIL}, {"type": "text", "text": "Done."}]},
    ],
    "tools": [{"name": "send", "description": f"Ask {MAIL}", "parameters": {"properties": {"to": {"enum": [MAIL]}}}}],
}


@pytest.mark.parametrize("named", [False, True])
def test_personal_data_is_masked_in_reasoning_arguments_and_results(named: bool, prepare: Any) -> None:
    messages = CALLING["messages"]
    settings: dict[str, Any] = {}
    if named:  # under other names, which the loader brings to ours first
        messages = [{("said" if key == "content" else key): item for key, item in turn.items()} for turn in messages]
        settings = {"message_keys": {"content": "said"}}
    step = {"use": "personal-data", "action": "mask"}
    (row,) = prepare([{**CALLING, "messages": messages}], step, **settings).train.rows
    mask = "[EMAIL]"
    assert row["messages"][2:] == [
        {
            "role": "assistant",
            "content": "",
            "reasoning_content": f"She is {mask}",
            "tool_calls": [{"type": "function", "function": {"name": "send", "arguments": {"to": mask, "text": "Hi"}}}],
        },
        {"role": "tool", "content": f"sent to {mask}"},
        {"role": "assistant", "content": "Done.", "reasoning_content": mask},
    ]
    (tool,) = row["tools"]
    # what a model must write as it stands there is no text
    assert tool["function"] == {
        "name": "send",
        "description": f"Ask {mask}",
        "parameters": {"properties": {"to": {"enum": [MAIL]}}},
    }


def test_lengths_count_reasoning_arguments_and_results(prepare: Any, context: Context) -> None:
    with pytest.raises(DataError, match="leaves none of its 1 rows"):
        prepare([{"messages": CALLING["messages"]}], {"use": "length", "max": 100})
    (entry,) = context.ledger.entries
    texts = ["Be brief.", "Write to her.", "", f"She is {MAIL}", MAIL, "Hi", f"sent to {MAIL}", MAIL, "Done."]
    assert entry.detail == str(len("\n".join(texts)))


def test_rows_that_differ_in_their_tools_alone_are_no_duplicates(prepare: Any) -> None:
    other = [{"name": "send", "description": "Another"}]
    rows = [CALLING, {**CALLING, "tools": other}, {**CALLING, "chat_template_kwargs": {"enable_thinking": False}}]
    assert len(prepare([*rows, {**CALLING, "id": 4}], {"use": "deduplicate", "columns": []}).train) == 4 - 1
