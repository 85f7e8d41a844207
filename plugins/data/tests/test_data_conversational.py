"""Plain prompts and answers become conversations where the model that the stage begins with has a chat template."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunesmith import Context, Dataset, RecipeError
from tunesmith.preparation import Source
from tunesmith_data import mix
from tunesmith_data.checks import jsonl as check
from tunesmith_data.loaders import jsonl
from tunesmith_data.settings import JsonlSettings, MixSettings

ASKED, FOUR = [{"role": "user", "content": "2 + 2?"}], [{"role": "assistant", "content": "4"}]
FIVE = [{"role": "assistant", "content": "5"}]
PLAIN = [
    ({"prompt": "2 + 2?", "completion": "4"}, {"prompt": ASKED, "completion": FOUR}),
    ({"instruction": "2 + 2?", "output": "4"}, {"prompt": ASKED, "completion": FOUR}),
    ({"prompt": "2 + 2?", "chosen": "4", "rejected": "5"}, {"prompt": ASKED, "chosen": FOUR, "rejected": FIVE}),
    (
        {"prompt": "2 + 2?", "completion": "4", "label": True},
        {"prompt": ASKED, "completion": FOUR, "label": True},
    ),
    ({"prompt": "2 + 2?", "answers": ["4", "5"]}, {"prompt": ASKED, "chosen": FOUR, "rejected": FIVE}),
    ({"prompt": "2 + 2?"}, {"prompt": ASKED}),
]


class Asked:
    """Counts how often the model is asked for."""

    def __init__(self, answer: bool | None) -> None:
        self.answer, self.times = answer, 0

    def __call__(self) -> bool | None:
        self.times += 1
        return self.answer


def load(folder: Path, *rows: Any, has_template: Callable[[], bool | None], **settings: Any) -> Dataset:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    context = Context(folder=folder, has_template=has_template)
    return jsonl(JsonlSettings(path=Path("rows.jsonl"), **settings), context)


@pytest.mark.parametrize(("row", "expected"), PLAIN)
def test_plain_rows_are_conversations_where_the_model_has_a_template(tmp_path: Path, row: Any, expected: Any) -> None:
    asked = Asked(True)
    data = load(tmp_path, row, {**row, **({"prompt": "b"} if "prompt" in row else {})}, has_template=asked)
    assert data.train.rows[0] == expected
    assert asked.times == 1
    assert data.recognised.endswith(
        ", as conversations: the model has a chat template (conversational = false leaves them plain)"
    )


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (False, ", as plain text: the model has no chat template"),
        (None, ", as plain text: whether the model has a chat template cannot be told"),
    ],
)
def test_plain_rows_stay_plain_where_it_has_none(tmp_path: Path, answer: bool | None, said: str) -> None:
    data = load(tmp_path, {"prompt": "2 + 2?", "completion": "4"}, has_template=Asked(answer), separator="")
    assert data.train.rows == [{"prompt": "2 + 2?", "completion": "4"}]
    assert said in data.recognised


@pytest.mark.parametrize(("wanted", "said"), [(True, "as conversations"), (False, "as plain text")])
def test_the_setting_decides_and_the_model_is_not_asked(tmp_path: Path, wanted: bool, said: str) -> None:
    asked = Asked(not wanted)
    data = load(tmp_path, {"prompt": "2 + 2?", "completion": "4"}, has_template=asked, conversational=wanted)
    assert isinstance(data.train.rows[0]["prompt"], list) is wanted
    assert data.recognised.endswith(f", {said}, as set by `conversational`")
    assert asked.times == 0


@pytest.mark.parametrize("row", [{"text": "once"}, {"text": "a", "label": "b"}, {"messages": [*ASKED, *FOUR]}])
def test_rows_without_plain_prompts_do_not_ask_for_the_model(tmp_path: Path, row: Any) -> None:
    asked = Asked(True)
    data = load(tmp_path, row, has_template=asked)
    assert data.train.rows == [row]
    assert asked.times == 0
    assert "conversations" not in data.recognised


def test_rows_that_shall_stay_plain_are_not_mixed_with_conversations(tmp_path: Path) -> None:
    rows = {"prompt": ASKED, "completion": FOUR}, {"prompt": "a", "completion": "b"}
    with pytest.raises(RecipeError, match="conversational = false leaves some rows plain"):
        load(tmp_path, *rows, has_template=Asked(True), conversational=False)
    data = load(tmp_path, *rows, has_template=Asked(None))
    assert data.train.rows[1]["prompt"] == [{"role": "user", "content": "a"}]
    assert data.recognised.endswith(", as conversations, as some of them are")


def test_a_system_prompt_and_plain_rows_exclude_each_other(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a"}\n')
    settings = JsonlSettings(path=Path("rows.jsonl"), system="Be brief.", conversational=False)
    with pytest.raises(RecipeError, match="`system` makes every row a conversation"):
        check(settings, tmp_path)


def mixed(folder: Path, has_template: Callable[[], bool | None], **sources: bool | None) -> Dataset:
    context = Context(folder=folder, has_template=has_template)
    found = {}
    for name, conversational in sources.items():
        (folder / f"{name}.jsonl").write_text(json.dumps({"prompt": name, "completion": "b"}) + "\n")
        settings = JsonlSettings(path=Path(f"{name}.jsonl"), conversational=conversational)
        found[name] = Source(settings, lambda settings=settings: jsonl(settings, context))  # type: ignore[misc]
    return mix.load(MixSettings(), context.with_(sources=found))


def test_the_sources_of_a_mix_follow_the_model(tmp_path: Path) -> None:
    chats = mixed(tmp_path, Asked(True), one=None, two=None)
    assert all(isinstance(row["prompt"], list) for row in chats.train.rows)
    plain = mixed(tmp_path, Asked(False), one=None, two=None)
    assert all(isinstance(row["prompt"], str) for row in plain.train.rows)
    joined = mixed(tmp_path, Asked(False), one=True, two=None)
    assert all(isinstance(row["prompt"], list) for row in joined.train.rows)
    assert joined.recognised.endswith("all as conversations, as some of them are")


def test_a_source_that_shall_stay_plain_is_not_made_a_conversation(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="conversational = false leaves the rows of source 'two' plain"):
        mixed(tmp_path, Asked(True), one=None, two=False)
    both = mixed(tmp_path, Asked(True), one=False, two=False)
    assert all(isinstance(row["prompt"], str) for row in both.train.rows)


@pytest.mark.parametrize(("row", "_"), PLAIN)
def test_a_line_break_parts_prompt_and_answer_where_there_is_no_template(tmp_path: Path, row: Any, _: Any) -> None:
    data = load(tmp_path, row, has_template=Asked(False))
    assert data.train.rows[0]["prompt"] == "2 + 2?\n"
    assert 'a line break is put behind each prompt (separator = "" puts nothing there)' in data.recognised
    own = load(tmp_path, row, has_template=Asked(False), separator="\n\n### Response:\n")
    assert own.train.rows[0]["prompt"] == "2 + 2?\n\n### Response:\n"
    assert own.recognised.endswith("as set by `separator`")


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Q: 2 + 2\nA: ", "completion": "4"},
        {"prompt": "2 + 2 =", "completion": " 4"},
        {"prompt": "2 + 2 =", "chosen": " 4", "rejected": "\n5"},
    ],
)
def test_white_space_of_the_rows_own_is_left(tmp_path: Path, row: Any) -> None:
    data = load(tmp_path, row, {**row, "prompt": "b "}, {"prompt": "a", **{k: row[k] for k in row if k != "prompt"}},
                has_template=Asked(False))  # fmt: skip
    assert [row["prompt"] for row in data.train.rows] == [row["prompt"], "b ", "a"]
    assert "white space of their own" in data.recognised


@pytest.mark.parametrize("settings", [{"conversational": False}, {}])
def test_nothing_is_put_there_unasked_where_a_person_chose_or_nothing_is_known(tmp_path: Path, settings: Any) -> None:
    data = load(tmp_path, {"prompt": "2 + 2?", "completion": "4"}, has_template=Asked(None), **settings)
    assert data.train.rows[0]["prompt"] == "2 + 2?"
    parted = load(tmp_path, {"prompt": "a", "completion": "b"}, has_template=Asked(None), separator="|", **settings)
    assert parted.train.rows[0]["prompt"] == "a|"


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"prompt": "a", "completion": "b"}, "the rows become conversations"),
        ({"text": "a"}, "no row has a plain prompt"),
        ({"messages": [*ASKED, *FOUR]}, "no row has a plain prompt"),
    ],
)
def test_a_separator_that_would_do_nothing_is_refused(tmp_path: Path, row: Any, why: str) -> None:
    with pytest.raises(RecipeError, match=why):
        load(tmp_path, row, has_template=Asked(True), separator="\n")
    for other in ({"system": "Be brief."}, {"conversational": True}):
        with pytest.raises(RecipeError, match="`separator` stands between plain prompts"):
            check(JsonlSettings(path=Path("rows.jsonl"), separator="\n", **other), tmp_path)


def test_the_split_and_the_duplicates_are_those_of_the_rows_with_their_separator(tmp_path: Path) -> None:
    rows = [{"prompt": f"{n}?", "completion": str(n)} for n in range(20)]
    data = load(tmp_path, *rows, rows[0], has_template=Asked(False), validation=0.2)
    assert (len(data.train), len(data.validation)) == (16, 4)
    assert all(row["prompt"].endswith("?\n") for row in [*data.train.rows, *data.validation.rows])
