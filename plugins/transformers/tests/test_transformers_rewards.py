"""Rewards by name, their sum, and the order in which prompts are answered."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tunesmith import Context, RecipeError
from tunesmith_transformers.online import reward_model, rewards
from tunesmith_transformers.online.check import check
from tunesmith_transformers.online.named import ExactAnswer, Length, number_of, same_answer
from tunesmith_transformers.online.prompts import Order, Prompt
from tunesmith_transformers.online.rows import row_check
from tunesmith_transformers.online.settings import OnlineSettings, ScoreSettings
from tunesmith_transformers.tokens.encoding import Unusable

SOLUTION = "Natalia sold 48/2 = <<48/2=24>>24 clips in May.\n#### 1,072"


def prompt(**row: Any) -> Prompt:
    return Prompt("rows.jsonl:1", (1, 2), row.get("prompt", "?"), row, {})


def score(reward: ExactAnswer, text: str, **row: Any) -> float:
    (found,) = reward([prompt(**row)], [[1]], [text])
    return found


# --- exact answers ----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It is 1072.\n#### 1072", 1.0),
        ("#### 1,072.00", 1.0),
        ("#### $1072 dollars.", 1.0),
        ("#### 5\nno, wait\n#### 1072", 1.0),
        ("#### 1072\n#### 5", 0.0),
        ("#### 1073", 0.0),
        ("#### -1072", 0.0),
        ("#### 1072 or 1073", 0.0),
        ("the answer is 1072", 0.0),
        ("####", 0.0),
        ("", 0.0),
    ],
)
def test_the_final_answer_after_the_marker_counts(text, expected):
    assert score(ExactAnswer(None, "####", "prompt-completion"), text, prompt="?", completion=SOLUTION) == expected


def test_without_a_marker_the_last_number_counts():
    reward = ExactAnswer("answer", "", "prompt")
    assert score(reward, "first 3, then 5-3 = 2 eggs", answer=2) == 1.0
    assert score(reward, "it is 0", answer=0) == 1.0
    assert score(reward, "none", answer=2) == 0.0


def test_an_answer_that_is_no_number_is_compared_as_text():
    reward = ExactAnswer("right", "Answer:", "prompt")
    assert score(reward, "Hm.\nAnswer:  new  York.", right="New York") == 1.0
    assert score(reward, "Answer: York", right="New York") == 0.0
    assert score(reward, "Answer: 1/2", right="1/2") == 1.0


def test_the_answer_of_a_conversation_is_its_last_message():
    row = {"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": SOLUTION}]}
    assert score(ExactAnswer(None, "####", "messages"), "#### 1072", **row) == 1.0


@pytest.mark.parametrize(("column", "row"), [(None, {"prompt": "?"}), ("answer", {"prompt": "?", "answer": None})])
def test_a_row_without_a_right_answer_cannot_be_used(column, row):
    with pytest.raises(Unusable, match="no right answer in"):
        ExactAnswer(column, "####", "prompt").right(row)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1,200.50", "1200.5"),
        ("\u22123", "-3"),
        ("$ .5 each", "0.5"),
        ("12 of 13", None),
        ("none", None),
        ("5-3", None),
        ("-$5", "-5"),
        ("$-5", "-5"),
        ("1_000_000", "1000000"),
        ("1,2", None),
        ("12,34", None),
        ("0,123", None),
        ("1,234,56", None),
        ("1,234_567", None),
    ],
)
def test_numbers_are_read_as_people_write_them(text, number):
    found = number_of(text)
    assert (found is None) if number is None else (found == number_of(number))


@pytest.mark.parametrize(
    ("found", "right", "same"),
    [
        ("1,2", "12", False),
        ("12", "1,2", False),
        ("1,2", "2", False),
        ("1,2", "1,2", True),
        ("12,34", "1,234", False),
        ("1,234", "1234", True),
        ("1,234,567.50", "1234567.5", True),
        ("$5", "-$5", False),
        ("\u2212$5", "-5", True),
    ],
)
def test_commas_count_unless_they_separate_thousands(found, right, same):
    assert same_answer(found, right) is same
    assert score(ExactAnswer("answer", "", "prompt"), f"It is {found}.", answer=f"So {right}") == float(same)


def test_a_missing_answer_equals_nothing():
    assert not same_answer(None, "")


# --- form and length --------------------------------------------------------------------------
def test_a_length_outside_its_bounds_costs_more_and_more():
    answers = [[0] * count for count in (0, 2, 4, 6, 8, 9, 10, 14)]
    found = Length(4, 6, 4)([prompt()] * 8, answers, [""] * 8)
    assert found == pytest.approx([-1.0, -0.5, 0.0, 0.0, -0.5, -0.75, -1.0, -1.0])
    assert Length(4, None, 4)([prompt()], [[0] * 99], [""]) == [0.0]


def test_several_rewards_are_added_by_weight_and_told_apart(tmp_path: Path):
    (tmp_path / "own.py").write_text("def score(prompts, completions, rows):\n    return [2.0, 4.0]\n")
    settings = OnlineSettings(reward=("format", "./own.py:score"), reward_weights=(0.5, 3.0), format_pattern=r"^\d+$")
    made = rewards.make({}, "prompt", settings, 8, Context(folder=tmp_path))
    found = made([prompt(), prompt()], [[1], [2]], ["12", "a 12"])
    torch.testing.assert_close(found.total, torch.tensor([6.5, 12.0]))
    metrics = found.metrics()
    assert metrics["reward"] == pytest.approx(9.25)
    assert metrics["rewards/format/mean"] == 0.5
    assert (metrics["rewards/score/mean"], metrics["rewards/score/std"]) == (3.0, 1.0)


# --- what the plan refuses --------------------------------------------------------------------
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"reward": "exact_answer"}, "Did you mean 'exact-answer'"),
        ({"reward": ("format",)}, "no pattern to look for"),
        ({"reward": "format", "format_pattern": "(a"}, "is no regular expression"),
        ({"reward": "length"}, "no length to hold answers to"),
        ({"reward": "length", "length_min": 9, "length_max": 3}, "is over length_max"),
        ({"reward": ("length", "length"), "length_max": 3}, "'length' twice"),
        ({"reward": ()}, "scores nothing"),
        ({"reward": "exact-answer", "length_max": 3}, "only the reward 'length' reads it"),
        ({"reward_weights": (1.0, 2.0)}, "2 reward_weights, but 1 rewards"),
        ({"reward": "exact-answer", "reward_weights": (1.0, 2.0)}, "2 reward_weights, but 1 rewards"),
    ],
)
def test_rewards_that_cannot_be_are_refused_by_the_plan(settings, said, tmp_path):
    with pytest.raises(RecipeError) as caught:
        list(check(OnlineSettings(**settings), tmp_path, "cpu", ()))
    assert said in f"{caught.value.what} {caught.value.fix}"


@pytest.mark.parametrize(
    ("settings", "said"), [({"reward": ("model",)}, "there is no reward model"), ({}, r"there is no reward\n")]
)
def test_a_reward_that_is_not_named_or_not_there_is_refused(settings, said):
    with pytest.raises(RecipeError, match=said):
        rewards.make({}, "prompt", OnlineSettings(**settings), 8, Context())


# --- the order of prompts ---------------------------------------------------------------------
def test_every_prompt_comes_once_before_one_comes_again_and_in_another_order_then():
    order = Order(10, 4, seed=3)
    found = [index for step in range(1, 6) for index in order.of_step(step)]
    assert sorted(found[:10]) == sorted(found[10:]) == list(range(10))
    assert found[:10] != found[10:]
    assert Order(10, 4, seed=3).of_step(4) == order.of_step(4), "a resumed run goes on as it would have"
    assert Order(10, 4, seed=4).of_step(1) != order.of_step(1)


def test_a_batch_may_be_larger_than_the_data():
    found = Order(3, 7, seed=0).of_step(1)
    assert sorted(found[:3]) == sorted(found[3:6]) == [0, 1, 2]
    assert len(found) == 7


# --- a reward model ---------------------------------------------------------------------------
SAID = [{"role": "user", "content": "hi"}]


def read_by(monkeypatch, change, given, answer=(65, 257)):
    """What a reward model reads of a prompt and an answer, where its tokenizer differs from the policy's."""
    from tunesmith import Adapted
    from tunesmith.testing import tiny_handle, tiny_tokenizer
    from tunesmith_transformers.loading.heads import with_head
    from tunesmith_transformers.tokens.encoding import prompt_ids

    policy, scorer = Adapted(tiny_handle()), with_head(tiny_handle(), "scalar", 0)
    scorer.tokenizer = tiny_tokenizer()
    change(scorer.tokenizer)
    reward = reward_model.ModelReward(Adapted(scorer), policy, "prompt", 2)
    seen = []
    monkeypatch.setattr(
        reward_model, "scores", lambda model, inputs: seen.extend(inputs["input_ids"].tolist()) or torch.zeros(1)
    )
    row = {"prompt": given}
    ids = tuple(prompt_ids(row, "prompt", policy.handle.tokenizer))
    text = policy.handle.tokenizer.decode(answer, skip_special_tokens=True)
    reward([Prompt("r:1", ids, given, row, {})], [answer], [text])
    return reward, seen[0], [*ids, *answer]


def shorter_template(tokenizer):
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}>"


def test_a_reward_model_that_reads_alike_gets_the_policy_s_tokens(monkeypatch):
    for given in ("hi", SAID):
        reward, read, own = read_by(monkeypatch, lambda tokenizer: None, given)
        assert reward.apart is None
        assert read == own


def test_a_reward_model_of_another_vocabulary_gets_the_texts(monkeypatch):
    change = lambda tokenizer: tokenizer.add_tokens(["hi"])  # noqa: E731
    reward, read, own = read_by(monkeypatch, change, "hi")
    assert "has another vocabulary than the policy" in reward.apart
    assert read == [259, 65, 257] != own
    # an answer that did not end has no end here either
    assert read_by(monkeypatch, change, "hi", (65, 65))[1] == [259, 65, 65]


def test_a_reward_model_of_another_chat_template_reads_conversations_in_its_own(monkeypatch):
    reward, read, _ = read_by(monkeypatch, shorter_template, SAID)
    assert "has another chat template than the policy" in reward.apart
    assert reward.adapted.handle.tokenizer.decode(read[:-2]) == "hi>"
    assert read[-2:] == [65, 257]
    _, read, own = read_by(monkeypatch, shorter_template, "hi")
    assert read == own


def test_a_prompt_that_the_reward_model_s_template_refuses_is_a_lost_row(monkeypatch):
    def refuse(tokenizer):
        tokenizer.chat_template = (
            "{{ raise_exception('no system here') if messages[0]['role'] == 'system' else messages[0]['content'] }}"
        )

    reward, _, _ = read_by(monkeypatch, refuse, SAID)
    from tunesmith.testing import tiny_handle

    handles = {"policy": tiny_handle(), "reward": reward.adapted.handle}
    with pytest.raises(Unusable, match="no system here"):
        row_check(handles, "prompt", ScoreSettings())({"prompt": [{"role": "system", "content": "s"}, *SAID]})
