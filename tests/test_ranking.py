"""Ranking answers: what a person may write, what is kept of it, and who won."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import pytest

from tunesmith import DataError, Records
from tunesmith.errors import LockedError
from tunesmith.ranking.book import Book, Participant, book_path
from tunesmith.ranking.judgments import Judgments, ranking
from tunesmith.ranking.order import Choice, choices, example, read_order
from tunesmith.ranking.prompts import Question, questions
from tunesmith.ranking.tally import ELO, bradley_terry, tally
from tunesmith.stats import wilson
from tunesmith.turns import in_words


# --- what a person writes ---------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "count", "scores"),
    [
        ("1", 2, [1, 0]),
        ("2", 2, [0, 1]),
        ("2>1", 2, [0, 1]),
        ("=", 2, [0, 0]),
        ("1=2", 2, [0, 0]),
        (" 2 > 1 = 3 ", 3, [0, 1, 0]),
        ("3 1 2", 3, [1, 0, 2]),
        ("3,1,2", 3, [1, 0, 2]),
        ("312", 3, [1, 0, 2]),
        ("31=2", 3, [0, 0, 1]),
        ("=", 4, [0, 0, 0, 0]),
        ("10>9>8>7>6>5>4>3>2>1", 10, list(range(10))),
    ],
)
def test_an_order_is_read(text: str, count: int, scores: list[int]) -> None:
    assert read_order(text, count) == scores


@pytest.mark.parametrize(
    ("text", "count", "said"),
    [
        ("", 2, "no order"),
        ("better", 2, "'better' is no order"),
        ("2<1", 2, "no order"),
        ("2>", 2, "no order"),
        ("1>>2", 2, "no order"),
        ("3", 2, "there is no answer 3"),
        ("0>1", 2, "there is no answer 0"),
        ("1>1", 2, "1 stands there twice"),
        ("2>1", 3, "3 is missing"),
        ("2", 4, "1, 3, 4 are missing"),
        ("321", 10, "there is no answer 321"),
        ("²>1", 2, "no order"),
    ],
)
def test_what_is_no_order_says_why(text: str, count: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read_order(text, count)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_the_example_is_an_order(count: int) -> None:
    if count > 2:
        assert len(set(read_order(example(count).rpartition(" ")[2], count))) > 1
    assert "1 or 2" in example(2)


# --- how answers are shown --------------------------------------------------------------------
def asked(row: str = "r:1", prompt: Any = "p", **answers: list[str]) -> Question:
    return Question(row, prompt, {}, dict(answers))


def test_every_place_is_as_likely_for_every_participant() -> None:
    places = {name: [0, 0, 0] for name in "abc"}
    for row in range(3000):
        shown = choices(asked(f"r:{row}", a=["x"], b=["y"], c=["z"]), seed=1)
        for place, choice in enumerate(shown):
            places[choice.voices[0]][place] += 1
    deviation = math.sqrt(3000 * (1 / 3) * (2 / 3))
    for count in itertools.chain(*places.values()):
        assert abs(count - 1000) < 4 * deviation


def test_the_order_is_that_of_the_seed_and_the_row() -> None:
    one = asked(a=["x"], b=["y"], c=["z"], d=["w"])
    assert choices(one, 1) == choices(one, 1)
    assert len({tuple(choices(one, seed)) for seed in range(50)}) > 10


def test_equal_texts_are_shown_once() -> None:
    shown = choices(asked(a=["7", " 7\n"], b=["7"], c=["8", ""]), seed=0)
    assert sorted(shown, key=lambda choice: choice.text) == [
        Choice("", ("c",)),
        Choice("7", ("a", "a", "b")),
        Choice("8", ("c",)),
    ]
    assert [choice.text for choice in shown if choice.empty] == [""]


def test_prompts_are_asked_once_and_carry_their_columns() -> None:
    rows = [
        {"prompt": "p", "chosen": "a", "rejected": "b", "margin": 2.0, "task": "t"},
        {"prompt": "p", "chosen": "b", "rejected": "c", "margin": 1.0, "task": "t"},
        {"prompt": "p", "chosen": "b", "rejected": "c", "task": "other"},
        {"prompt": "q", "chosen": "b", "rejected": "c", "task": "t"},
    ]
    found = questions(Records(rows, list("abcd")), "preference", None)
    assert [(one.row, one.prompt, one.more) for one in found] == [
        ("a", "p", {"task": "t"}),
        ("c", "p", {"task": "other"}),
        ("d", "q", {"task": "t"}),
    ]
    talk = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]
    (one,) = questions(Records([{"messages": talk}], ["a"]), "messages", 5)
    assert one.prompt == talk[:1]
    assert in_words(one.prompt) == "hi"
    assert in_words([{"role": "system", "content": "be"}, *talk]) == "system: be\n\nuser: hi\n\nassistant: ho"
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    asked = [talk[0], {"role": "assistant", "content": "", "tool_calls": [call]}, {"role": "tool", "content": "2"}]
    assert in_words(asked) == 'user: hi\n\nassistant: add({"a": 1})\n\ntool: 2'
    with pytest.raises(DataError, match="no prompt"):
        questions(Records([{"text": "t"}], ["a"]), "text", None)


# --- what is kept -----------------------------------------------------------------------------
def book(folder: Path, *asked_: Question, names: str = "ab") -> Book:
    people = [Participant(name, f"runs/{name}", "0" * 64) for name in names]
    return Book(folder / "r.jsonl.answers.json", "", "", 1, 9, "generate", {}, 1, people, list(asked_))


def test_a_judgment_is_a_ranking_with_the_best_first() -> None:
    shown = [Choice("x", ("a",)), Choice(" ", ("b",)), Choice("z", ("c", "d"))]
    row = ranking(Question("r:1", "p", {"task": "t"}), shown, [1, 0, 2], seed=7)
    assert row.pop("time")
    assert row == {
        "task": "t",
        "prompt": "p",
        "answers": ["z", "x"],
        "scores": [2, 1],
        "runs": [["c", "d"], ["a"]],
        "shown": [3, 1],
        "row": "r:1",
        "seed": 7,
        "empty": [{"runs": ["b"], "score": 0, "shown": 2}],
    }
    skipped = ranking(asked(), shown[::2], None, seed=7)
    assert (skipped["scores"], skipped["skipped"]) == ([0, 0], True)


def test_each_judgment_is_on_the_disk_before_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "r.jsonl"
    synced: list[int] = []
    monkeypatch.setattr("os.fsync", lambda descriptor: synced.append(path.stat().st_size))
    shown = [Choice("x", ("a",)), Choice("y", ("b",))]
    with Judgments.open(path) as judgments:
        for number in range(3):
            judgments.add(asked(f"r:{number}"), shown, [1, 0], 1)
            assert synced[-1] == path.stat().st_size > 0
            assert len(path.read_text().splitlines()) == number + 1
        assert judgments.undo().row == "r:2"  # type: ignore[union-attr]
        assert len(path.read_text().splitlines()) == 2
    with Judgments.open(path) as judgments:
        assert [judgment.row for judgment in judgments.kept] == ["r:0", "r:1"]
        assert [judgments.undo() is not None for _ in range(3)] == [True, True, False]
    assert path.read_bytes() == b""


def test_a_line_that_was_cut_anywhere_is_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    shown = [Choice("ä", ("a",)), Choice("y", ("b",))]
    with Judgments.open(path) as judgments:
        for number in range(2):
            judgments.add(asked(f"r:{number}"), shown, [1, 0], 1)
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for end in range(first, len(whole)):
        path.write_bytes(whole[:end])
        with Judgments.open(path) as judgments:
            assert judgments.repaired == end - first
            judgments.add(asked("r:2"), shown, [0, 0], 1)
        assert [json.loads(line)["row"] for line in path.read_text().splitlines()] == ["r:0", "r:2"]


@pytest.mark.parametrize("line", ["{", "[]", '{"row": "r:1"}', '{"row": "r:1", "prompt": "p", "answers": ["x"]}', ""])
def test_a_line_of_something_else_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(f"{line}\n")
    with pytest.raises(DataError) as caught, Judgments.open(path):
        pass
    assert caught.value.where == f"{path}:1"
    assert path.read_text() == f"{line}\n"


def test_one_process_at_a_time_writes(tmp_path: Path) -> None:
    with Judgments.open(tmp_path / "r.jsonl"), pytest.raises(LockedError), Judgments.open(tmp_path / "r.jsonl"):
        pass


def test_rankings_of_other_answers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    one = asked(a=["x"], b=["y"])
    with Judgments.open(path) as judgments:
        judgments.add(one, choices(one, 1), [1, 0], 1)
        judgments.check(book(tmp_path, one))
        for other in (asked("r:2", a=["x"], b=["y"]), asked(prompt="q", a=["x"], b=["y"]), asked(a=["z"], b=["y"])):
            with pytest.raises(DataError) as caught:
                judgments.check(book(tmp_path, other))
            assert caught.value.where == f"{path}:1"


def test_a_book_is_read_as_it_was_written(tmp_path: Path) -> None:
    one = book(tmp_path, asked(a=["x"], b=["y"]), asked("r:2", [{"role": "user", "content": "q"}]))
    one.left_out["r:2"] = "too long"
    one.write()
    assert Book.read(one.path) == one
    assert (one.complete, [question.row for question in one.to_judge]) == (True, ["r:1"])
    one.path.write_text(one.path.read_text()[:-9])
    with pytest.raises(DataError, match="cannot be read"):
        Book.read(one.path)
    assert book_path(tmp_path / "r.jsonl") == one.path


# --- who won ----------------------------------------------------------------------------------
def test_wins_ties_and_losses_are_counted(tmp_path: Path) -> None:
    rows = [asked(f"r:{number}", a=["x"], b=["y"]) for number in range(5)] + [asked("r:5", a=["x"], b=["x"])]
    whole = book(tmp_path, *rows)
    with Judgments.open(tmp_path / "r.jsonl") as judgments:
        for question, better in zip(rows, ["a", "a", "b", None, "skip"], strict=False):
            shown = choices(question, 1)
            scores = None if better == "skip" else [float(choice.voices[0] == better) for choice in shown]
            judgments.add(question, shown, scores, 1)
        found = tally(whole, judgments)
    assert (found.prompts, found.judged, found.skipped, found.alike, found.left) == (6, 4, 1, 1, 0)
    a, b = found.scores
    assert (a.name, a.wins, a.ties, a.losses) == ("a", 2, 2, 1)
    assert (b.name, b.wins, b.ties, b.losses) == ("b", 1, 2, 2)
    assert a.rate == pytest.approx(0.6)
    assert (a.low, a.high) == pytest.approx(wilson(0.6, 5))
    assert a.rate + b.rate == pytest.approx(1)  # type: ignore[operator]
    assert a.elo is None
    assert found.pairs == ({"one": "a", "two": "b", "wins": 2, "ties": 2, "losses": 1},)
    assert found.describe(names=False)["runs"] is None


def test_answers_of_one_model_do_not_meet_each_other(tmp_path: Path) -> None:
    one = asked(a=["v", "w"], b=["x", "y"])
    whole = book(tmp_path, one)
    whole.draws = 2
    with Judgments.open(tmp_path / "r.jsonl") as judgments:
        shown = choices(one, 1)
        order = {"v": 3, "w": 1, "x": 2, "y": 1}
        judgments.add(one, shown, [order[choice.text] for choice in shown], 1)
        a, b = tally(whole, judgments).scores
    assert (a.name, a.wins, a.ties, a.losses) == ("a", 2, 1, 1)
    assert (a.rate, b.rate) == (0.625, 0.375)


def test_strengths_are_those_that_gave_the_wins(tmp_path: Path) -> None:
    true = [0.8, 0.1, -0.9]
    won = {(i, j): 1e6 / (1 + math.exp(true[j] - true[i])) for i, j in itertools.permutations(range(3), 2)}
    assert bradley_terry(won, 3) == pytest.approx(true, abs=1e-4)
    assert bradley_terry({}, 3) == pytest.approx([0, 0, 0])
    always = bradley_terry({(0, 1): 9, (0, 2): 9, (1, 2): 9}, 3)
    assert always == sorted(always, reverse=True)
    assert all(map(math.isfinite, always))
    assert ELO * math.log(10) == pytest.approx(400)
    rows = [asked(f"r:{number}", a=["x"], b=["y"], c=["z"]) for number in range(12)]
    with Judgments.open(tmp_path / "r.jsonl") as judgments:
        for question in rows:
            shown = choices(question, 1)
            judgments.add(question, shown, ["zyx".index(choice.text) for choice in shown], 1)
        found = tally(book(tmp_path, *rows, names="abc"), judgments)
    assert [score.name for score in found.scores] == ["a", "b", "c"]
    assert [score.wins for score in found.scores] == [24, 12, 0]
    for score in found.scores:
        assert score.elo_low <= score.elo <= score.elo_high  # type: ignore[operator]
    assert found.scores[1].elo == pytest.approx(0, abs=0.2)


def test_nothing_judged_is_no_figure(tmp_path: Path) -> None:
    whole = book(tmp_path, asked(a=["x"], b=["y"]))
    with Judgments.open(tmp_path / "r.jsonl") as judgments:
        found = tally(whole, judgments)
    assert (found.left, [score.rate for score in found.scores]) == (1, [None, None])
