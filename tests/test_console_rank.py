"""`tunesmith rank`: a person orders answers, sees who won at the end, and trains on what was kept."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Output = tuple[int, str, str]
ONE, TWO = "runs/recipe-001", "runs/recipe-002"
#: The toy's evaluator whose samples are its answers: "question 6 0.94".
USE = ("--use", "distance")


@pytest.fixture
def says(call: Callable[..., Output], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Output]:
    """Two finished toy runs whose answers end in 0.94 and 0.50, and `rank` with what a person writes."""
    call("run", "recipe.toml", "--set", "data.validation=5")
    call("run", "recipe.toml", "--set", "data.validation=5", "--set", "trainer.steps=1")

    def rank(text: str, *words: str) -> Output:
        monkeypatch.setattr(sys, "stdin", io.StringIO(text))
        return call("rank", *words)

    return rank


def kept(file: str = "ranked.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(file).read_text(encoding="utf-8").splitlines()]


def places(err: str) -> list[int]:
    """For each question that was shown, the place of the answer of the first run."""
    return [int(place) for place in re.findall(r"^(\d) question \d 0.94$", err, re.MULTILINE)]


# --- one sitting ------------------------------------------------------------------------------
def test_a_person_orders_answers_and_sees_at_the_end_who_won(says: Callable[..., Output]) -> None:
    code, out, err = says("1\n2\n=\nbetter\n2>1\n\n1>3\ns\n", ONE, TWO, *USE)
    assert code == 0, err
    rows = kept()
    assert [row["row"] for row in rows] == [f"pairs.txt:{number}" for number in range(4, 9)]
    assert [row["shown"][row["runs"].index(["recipe-001"])] for row in rows] == places(err)
    for row, best in zip(rows, [1, 2, None, 2], strict=False):
        if best is None:
            assert row["scores"] == [0, 0]
        else:
            assert (row["scores"], row["shown"][0]) == ([1, 0], best)
        assert row["prompt"] in row["answers"][0]
        assert row["seed"] == 42
    assert rows[4]["skipped"] is True
    assert "'better' is no order. Write 1 or 2" in err
    assert "there is no answer 3" in err
    assert re.search(r"model +wins +ties +losses +win rate", out)
    assert "4 of 5 prompts judged, 1 skipped" in out
    assert 'use = "jsonl" and path = "ranked.jsonl"' in err
    assert re.search(r"next: tunesmith chat runs/recipe-00[12]/artifact$", err, re.MULTILINE)
    questions = err[err.index("which is better?") : err.index("all is judged")]
    assert "recipe-00" not in questions, "whose answer is whose must not be told"


def test_it_goes_on_where_it_stopped_and_draws_nothing_again(
    says: Callable[..., Output], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = says("1\n2\nq\n", ONE, TWO, *USE)
    assert (code, out) == (0, "")
    assert "3 more to judge" in err
    assert "next: tunesmith rank --to ranked.jsonl\n" in err
    with Path("ranked.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"prompt": "question 5", "ans')  # a kill
    Path(ONE).rename("gone")
    monkeypatch.setattr("tunesmith.ranking.draw.draw", lambda *_: pytest.fail("everything was drawn before"))
    code, out, err = says("u\n1\n=\n=\n=\n")
    assert code == 0, err
    assert "cut short is taken away" in err
    assert "taken back" in err
    assert [row["row"] for row in kept()] == [f"pairs.txt:{number}" for number in range(4, 9)]
    assert kept()[1]["shown"][0] == 1
    assert "5 of 5 prompts judged" in out
    again = says("", "--json")
    assert json.loads(again[1])["left"] == 0


def test_answers_of_a_model_that_were_drawn_are_kept_when_the_next_one_fails(
    says: Callable[..., Output], monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = Path(TWO) / "artifact" / "weight.json"
    good = weight.read_text()
    weight.write_text("9")
    code, _, err = says("", ONE, TWO, *USE)
    assert (code, "damaged" in err) == (1, True)
    weight.write_text(good)
    code, _, err = says("1\n" * 5)
    assert code == 0, err
    assert "== answers of recipe-002" in err
    assert "== answers of recipe-001" not in err


def test_names_come_with_the_end_or_when_asked_for(says: Callable[..., Output]) -> None:
    found = json.loads(says("1\n", ONE, TWO, *USE, "--json")[1])
    assert (found["judged"], found["left"], found["runs"], found["pairs"]) == (1, 4, None, None)
    found = json.loads(says("", "--table", "--json")[1])
    assert {run["name"] for run in found["runs"]} == {"recipe-001", "recipe-002"}
    assert found["runs"][0]["wins"] == found["pairs"][0]["wins"] + found["pairs"][0]["losses"] == 1
    assert "win rate" in says("", "--table")[1]


def test_answers_that_are_alike_are_ties_that_nobody_is_asked_about(says: Callable[..., Output]) -> None:
    code, out, err = says("", ONE, f"again={ONE}", *USE, "--json")
    assert code == 0
    found = json.loads(out)
    assert (found["alike"], found["left"], found["judged"]) == (5, 0, 0)
    assert [(run["ties"], run["rate"]) for run in found["runs"]] == [(5, 0.5), (5, 0.5)]
    assert "5 of 5 prompts got the same answer" in err
    assert kept() == []


def test_three_are_compared_by_pairs_and_strength(says: Callable[..., Output]) -> None:
    _, _, err = says("", ONE, TWO, "--base", *USE)
    found: list[dict[str, Any]] = []
    for _ in range(5):
        _, out, err = says(f"{_order(err)}\n", "--json")
        found = json.loads(out)["runs"]
    assert [(run["name"], run["wins"], run["losses"]) for run in found] == [
        ("recipe-001", 10, 0),
        ("recipe-002", 5, 5),
        ("base", 0, 10),
    ]
    assert found[0]["elo"] > found[1]["elo"] > found[2]["elo"]
    out = says("")[1]
    assert re.search(r"recipe-001 against base +5 +0 +0", out)
    assert "Elo" in out


def _order(err: str) -> str:
    """The order of the last question that was shown, by the toy's weights."""
    shown = re.findall(r"^(\d) question \d (\S+)$", err, re.MULTILINE)[-3:]
    return ">".join(place for place, _ in sorted(shown, key=lambda item: -float(item[1])))


# --- refusals ---------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 2, "nothing was begun in ranked.jsonl"),
        (("--table", ONE, TWO), 2, "nothing was begun in ranked.jsonl"),
        ((ONE, *USE), 2, "one answer cannot be put in order"),
        ((ONE, ONE, *USE), 2, "'recipe-001' is the name of two models"),
        ((ONE, f"base={TWO}", *USE), 2, "'base' is how the base model is called"),
        (("--base",), 2, "--base needs a run"),
        ((ONE, "runs/recipe-009"), 65, "runs/recipe-009 is not a run folder"),
        ((ONE, "--answers", "3"), 2, "without a temperature"),
        ((ONE, TWO, "--use", "distanec"), 69, "Did you mean 'distance'?"),
        ((ONE, TWO, *USE, "--temperature", "1"), 78, "unknown setting 'temperature'"),
        ((ONE, TWO, *USE, "--set", "limit=3"), 2, "--set is for the loader of --prompts"),
        ((ONE, TWO, *USE, "--prompts", "gone.jsonl"), 65, "there is no file gone.jsonl"),
        ((ONE, TWO, *USE, "--prompts", "recipe.toml"), 2, "no loader is known for recipe.toml"),
        ((ONE, TWO, *USE, "--to", "runs"), 74, "runs cannot be written"),
    ],
)
def test_what_cannot_be_begun_is_refused(
    says: Callable[..., Output], words: tuple[str, ...], code: int, said: str
) -> None:
    ended = says("", *words)
    assert (ended[0], ended[1]) == (code, ""), ended[2]
    assert said in ended[2]
    assert "\n  fix: " in ended[2]
    assert not list(Path().glob("*.answers.json"))


def test_a_run_that_is_not_finished_is_named(call: Callable[..., Output], says: Callable[..., Output]) -> None:
    call("run", "recipe.toml", "--set", "trainer.fault=signal")
    code, _, err = says("", ONE, "runs/recipe-003")
    assert code == 65
    assert "tunesmith resume runs/recipe-003" in err


def test_another_comparison_in_the_same_file_is_refused(
    call: Callable[..., Output], says: Callable[..., Output]
) -> None:
    assert says("1\nq\n", ONE, TWO, *USE)[0] == 0
    before = Path("ranked.jsonl").read_bytes()
    call("run", "recipe.toml", "--set", "data.validation=5", "--set", "trainer.steps=2")
    for words, said in (
        ((ONE, TWO, "--seed", "7"), "--seed: begun with 42, now 7"),
        ((ONE, TWO, "--rows", "3"), "--rows: begun with 20, now 3"),
        ((ONE, TWO, "--base"), "base: was not among recipe-001, recipe-002"),
        ((ONE, "runs/recipe-003"), "recipe-002: is not named now"),
        ((ONE, "recipe-002=runs/recipe-003"), "recipe-002: is another model now"),
        (("--prompts", "pairs.txt"), "--prompts: begun with none, now "),
    ):
        code, _, err = says("", *words)
        assert code == 2, words
        assert "ranked.jsonl belongs to another comparison" in err
        assert said in err
    assert says("q\n", TWO, ONE, *USE, "--seed", "42")[0] == 0
    assert Path("ranked.jsonl").read_bytes() == before
    Path("ranked.jsonl.answers.json").unlink()
    code, _, err = says("", ONE, TWO, *USE)
    assert code == 2
    assert "without the answers that it ranks" in err
    Path("ranked.jsonl.answers.json").write_text("{")
    assert says("")[0] == 65


def test_answers_cannot_steer_the_terminal(
    call: Callable[..., Output], says: Callable[..., Output], tmp_path: Path
) -> None:
    steering = "\x1b]0;title\x07\x1b[2J\x9b31m‮"
    (tmp_path / "pairs.txt").write_text("".join(f"{steering}{number}|x\n" for number in range(8)), newline="\n")
    code, out, err = says("1\n" * 5, ONE, TWO, *USE)
    assert code == 0, err
    assert not set(out + err) & set("\x1b\x07\x9b‮")
    assert kept()[0]["prompt"].startswith(steering)


# --- with models ------------------------------------------------------------------------------
def test_reward_and_dpo_train_on_what_was_ranked(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranked by the number of letters, with ties and a skip; the longer answer is then the better one."""
    for steps in (2, 4):
        assert house.call("run", house.recipe({"trainer.max_steps": steps, "trainer.learning_rate": 0.3})).code == 0
    one, two = sorted(house.runs.glob("recipe-*"))
    asked = [{"prompt": f"{a}*{b}="} for a in range(6) for b in range(5)]
    house.rows(asked, "asked.jsonl")
    words = ("--base", "--prompts", "asked.jsonl", "--rows", "24", "--answers", "2", "--temperature", "1.5")
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    begun = house.call("rank", one, two, *words, "--max-new-tokens", "6", "--batch-size", "8")
    assert begun.code == 0, begun.err
    told = json.loads(Path("ranked.jsonl.answers.json").read_text(encoding="utf-8"))
    assert [len(q["answers"][name]) for q in told["questions"] for name in (one.name, two.name, "base")] == [2] * 72
    from tunesmith.ranking.book import Book
    from tunesmith.ranking.order import choices

    written = ["s\n"]
    for question in Book.read(Path("ranked.jsonl.answers.json")).to_judge[1:]:
        shown = choices(question, 42)
        levels: dict[int, list[str]] = {}
        for place, choice in enumerate(shown, 1):
            levels.setdefault(len(choice.text.strip()), []).append(str(place))
        written.append(">".join("=".join(levels[length]) for length in sorted(levels, reverse=True)) + "\n")
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(written)))
    ended = house.call("rank", "--json")
    assert ended.code == 0, ended.err
    found = json.loads(ended.out)
    assert (found["left"], found["skipped"], found["judged"]) == (0, 1, found["prompts"] - found["alike"] - 1)

    data = {"use": "jsonl", "path": "ranked.jsonl", "validation": 0.2}
    for trainer, evaluator in (("reward", "reward-accuracy"), ("dpo", "preference-accuracy")):
        changes = {"data": data, "trainer.use": trainer, "evaluate": [{"use": evaluator}], "trainer.max_steps": 1}
        outcome = house.call("run", house.recipe(changes), "--json")
        assert outcome.code == 0, outcome.err
        ledger = json.loads(outcome.out)["stages"]["main"]["ledger"]
        assert ledger["trained"] > 10
        assert ledger["dropped_reasons"]["all answers have the same score"] >= 1


def test_a_model_that_scores_cannot_be_ranked(house: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    house.rows([{"prompt": f"{a}+1=", "chosen": str(a + 1), "rejected": "no"} for a in range(12)], "pairs.jsonl")
    changes = {"data.path": "pairs.jsonl", "trainer.use": "reward", "evaluate": [], "trainer.max_steps": 1}
    assert house.call("run", house.recipe(changes)).code == 0
    (run,) = house.runs.glob("recipe-*")
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    outcome = house.call("rank", run, f"b={run}", "--max-new-tokens", "2")
    assert outcome.code == 65
    assert "'scalar' head; it scores and cannot answer" in outcome.err
    assert f"where: {run.name}" in outcome.err
