"""Rankings become pairs as the settings say, and pairs become single answers with labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tunesmith import Context, Dataset, RecipeError
from tunesmith_data.formats import Unusable, convert, recognise
from tunesmith_data.loaders import jsonl
from tunesmith_data.settings import JsonlSettings

RANKED = {"prompt": "2+2?", "answers": ["4", "four", "5"]}
SCORED = {"prompt": "2+2?", "answers": ["5", "4", "four"], "scores": [1, 9, 7]}


def load(folder: Path, *rows: Any, context: Context | None = None, **settings: Any) -> Dataset:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return jsonl(JsonlSettings(path=Path("rows.jsonl"), **settings), context or Context(folder=folder))


def orders(dataset: Dataset) -> list[tuple[str, str]]:
    return [(row["chosen"], row["rejected"]) for row in dataset.train.rows]


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("all", [("4", "four"), ("4", "5"), ("four", "5")]),
        ("adjacent", [("4", "four"), ("four", "5")]),
        ("best-worst", [("4", "5")]),
    ],
)
@pytest.mark.parametrize("row", [RANKED, SCORED])
def test_a_ranking_becomes_pairs(tmp_path, row, how, expected):
    dataset = load(tmp_path, row, ranking=how)
    assert dataset.type == "preference"
    assert orders(dataset) == expected
    assert recognise([row]) == "ranking"


def test_scores_give_margins_and_ties_no_pair(tmp_path):
    dataset = load(tmp_path, SCORED)
    assert [row["margin"] for row in dataset.train.rows] == [2.0, 8.0, 6.0]
    assert dataset.train.ids[1] == "rows.jsonl:1/1-3"
    tied = {"prompt": "a", "answers": ["x", "y", "z"], "scores": [1, 1, 0]}
    assert orders(load(tmp_path, tied)) == [("x", "z"), ("y", "z")]
    assert "margin" not in load(tmp_path, RANKED).train.rows[0]


def test_every_row_is_accounted_for(tmp_path):
    context = Context(folder=tmp_path)
    equal = {"prompt": "b", "answers": ["x", "y"], "scores": [1, 1]}
    dataset = load(tmp_path, RANKED, equal, context=context, pairs="unpaired")
    assert context.ledger.rows_in == len(dataset.train) + context.ledger.dropped
    assert context.ledger.reasons() == {"all answers have the same score": 1}
    context.check_rows()  # a tie is no fault of the data


def test_conversations_are_ranked_too(tmp_path):
    asked, said = {"role": "user", "content": "2+2?"}, [{"role": "assistant", "content": t} for t in ("4", "5")]
    row = load(tmp_path, {"prompt": [asked], "answers": [[said[0]], "5"]}).train.rows[0]
    assert row == {"prompt": [asked], "chosen": [said[0]], "rejected": [said[1]]}
    (row,) = load(tmp_path, {"prompt": "2+2?", "answers": ["4", "5"]}, conversational=True).train.rows
    assert row == {"prompt": [asked], "chosen": [said[0]], "rejected": [said[1]]}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"answers": "4"}, "'answers' is text, not a list"),
        ({"answers": ["4"]}, "'answers' has fewer than two"),
        ({"answers": ["4", ""]}, "an answer is empty"),
        ({"answers": ["4", "5", "4"]}, "two of the answers are equal"),
        ({"scores": [1, 2]}, "'scores' and 'answers' differ in number"),
        ({"scores": [1, 2, "3"]}, "a score is not a number"),
        ({"scores": [1, 2, float("inf")]}, "a score is not finite"),
        ({"scores": 3}, "'scores' is a number, not a list"),
    ],
)
def test_what_makes_a_ranking_unusable(change, reason):
    with pytest.raises(Unusable) as error:
        convert({**RANKED, **change}, "ranking")
    assert error.value.reason == reason


def test_pairs_become_single_answers_on_one_side_of_the_split(tmp_path):
    rows = [{"prompt": f"{i}?", "chosen": "yes", "rejected": "no", "margin": 2} for i in range(12)]
    dataset = load(tmp_path, *rows, pairs="unpaired", validation=0.25, keep=("margin",))
    assert dataset.type == "unpaired-preference"
    assert len(dataset.train) == 18
    assert dataset.train.rows[:2] == [
        {"prompt": "0?", "completion": "yes", "label": True},
        {"prompt": "0?", "completion": "no", "label": False},
    ]
    assert not {row["prompt"] for row in dataset.train.rows} & {row["prompt"] for row in dataset.validation.rows}


def test_a_ranking_s_pairs_stay_on_one_side_of_the_split(tmp_path):
    rows = [{**RANKED, "prompt": f"{i}?"} for i in range(12)]
    dataset = load(tmp_path, *rows, validation=0.25)
    assert (len(dataset.train), len(dataset.validation)) == (27, 9)
    assert not {row["prompt"] for row in dataset.train.rows} & {row["prompt"] for row in dataset.validation.rows}


@pytest.mark.parametrize("row", [RANKED, SCORED, {"prompt": "2+2?", "chosen": "4", "rejected": "5"}])
def test_the_wanted_answer_of_a_pair_alone(tmp_path, row):
    dataset = load(tmp_path, row, pairs="wanted")
    assert (dataset.type, dict(dataset.train)) == (
        "prompt-completion",
        {"rows.jsonl:1": {"prompt": "2+2?", "completion": "4"}},
    )


def test_the_wanted_of_answers_with_labels(tmp_path):
    context = Context(folder=tmp_path)
    rows = [{"prompt": f"{n}?", "completion": "yes", "label": n % 2 == 0} for n in range(4)]
    dataset = load(tmp_path, *rows, pairs="wanted", context=context)
    assert (dataset.type, dataset.train.ids) == ("prompt-completion", ["rows.jsonl:1", "rows.jsonl:3"])
    assert dataset.train.rows[0] == {"prompt": "0?", "completion": "yes"}
    assert dataset.recognised.endswith(", the wanted answers alone, as set by `pairs`")
    assert context.ledger.reasons() == {"an unwanted answer, left out by `pairs`": 2}
    context.ledger.check(0.0)


def test_pairs_of_rows_that_are_none_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="'prompt-completion' rows do not say which answers are wanted"):
        load(tmp_path, {"prompt": "a", "completion": "b"}, pairs="unpaired")
    with pytest.raises(RecipeError, match="'unpaired-preference' rows have labels already"):
        load(tmp_path, {"prompt": "a", "completion": "b", "label": True}, pairs="unpaired")
