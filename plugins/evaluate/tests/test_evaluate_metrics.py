"""Each measure against values worked out by hand or by the library itself."""

from __future__ import annotations

from dataclasses import replace

import pytest
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu import corpus_bleu, corpus_chrf

from tunesmith_evaluate.metrics import exact_match, measure, normalized, rouge_l
from tunesmith_evaluate.settings import GenerateSettings

PAIRS = [
    ("Return the sum of two numbers.", "Return the sum of two numbers."),
    ("Open a file and read it.", "Open the file, then read it."),
    ("", "Close the socket."),
    ("it returns nothing at all", "Yield each item of the queue."),
] * 5


@pytest.mark.parametrize(
    ("answer", "reference", "same"),
    [
        (" Yes.\n", "yes", True),
        ("two  words", "Two words!", True),
        ("STRASSE", "straße", True),
        ("3.5", "35", False),
        ("no", "yes", False),
    ],
)
def test_exact_match_with_normalization(answer: str, reference: str, same: bool) -> None:
    assert exact_match(answer, reference, True) == same


def test_exact_match_without_normalization_ignores_only_blanks_around() -> None:
    assert exact_match(" yes\n", "yes", False) == 1
    assert exact_match("Yes", "yes", False) == 0


def test_normalization_keeps_what_is_inside() -> None:
    assert normalized("  A.b:  c ?! ") == "a.b: c"


def test_rouge_l_by_hand() -> None:
    # longest common subsequence "the cat sat": 3 of 4 words of the answer, 3 of 6 of the reference
    (value,) = rouge_l([("the cat sat down", "the cat sat on the mat")])
    assert value == pytest.approx(2 * (3 / 4) * (3 / 6) / (3 / 4 + 3 / 6))


def test_rouge_l_equals_the_librarys_tokenizer_on_ascii() -> None:
    scorer = RougeScorer(["rougeL"], use_stemmer=False)
    pairs = [*PAIRS, ("snake_case is-2 words", "snake case is 2 words"), ("don't `x[1]`", "don t x 1")]
    assert rouge_l(pairs) == [scorer.score(reference, answer)["rougeL"].fmeasure for answer, reference in pairs]


@pytest.mark.parametrize("text", ["Возвращает сумму чисел", "返回两个数的和", "Größe zurückgeben", "数を返す"])
def test_rouge_l_knows_other_scripts(text: str) -> None:
    assert rouge_l([(text, text)]) == [1.0]


def test_rouge_l_compares_chinese_sign_by_sign() -> None:
    (value,) = rouge_l([("返回和", "返回差")])
    assert value == pytest.approx(2 / 3)


def test_corpus_scores_are_sacrebleus() -> None:
    found = measure(PAIRS, GenerateSettings(), seed=0)
    answers, references = zip(*PAIRS, strict=True)
    assert found["bleu"].value == corpus_bleu(answers, [references]).score
    assert found["chrf"].value == corpus_chrf(answers, [references]).score


def test_every_measure_has_an_interval_rows_and_a_direction() -> None:
    found = measure(PAIRS, GenerateSettings(), seed=0)
    assert list(found) == ["exact_match", "rouge_l", "bleu", "chrf"]
    for each in found.values():
        assert each.low is not None
        assert each.high is not None
        assert each.low < each.value < each.high
        assert each.n == len(PAIRS)
        assert each.better == "higher"
    assert found["exact_match"].per_row == (1.0, 0.0, 0.0, 0.0) * 5
    assert sum(found["rouge_l"].per_row) / len(PAIRS) == pytest.approx(found["rouge_l"].value)
    assert found["bleu"].per_row == ()


def test_only_the_wanted_measures_in_their_order() -> None:
    settings = GenerateSettings(metrics=("chrf", "exact-match", "chrf"))
    assert list(measure(PAIRS, settings, seed=0)) == ["chrf", "exact_match"]


def test_answers_that_share_nothing_score_zero_with_an_interval_of_zero() -> None:
    found = measure([("", "abc def"), ("", "ghi")], GenerateSettings(), seed=0)
    assert {(each.value, each.low, each.high) for each in found.values()} == {(0.0, 0.0, 0.0)}


def test_equal_answers_score_full() -> None:
    pairs = [("one two three four five", "one two three four five")] * 3
    found = measure(pairs, GenerateSettings(), seed=0)
    for name, full in (("exact_match", 1), ("rouge_l", 1), ("bleu", 100), ("chrf", 100)):
        assert (found[name].value, found[name].low, found[name].high) == pytest.approx((full, full, full))


def test_the_bleu_tokenizer_is_the_one_asked_for() -> None:
    pairs = [("返回两个数字的和", "返回两个数字的差")]
    words = measure(pairs, GenerateSettings(metrics=("bleu",)), seed=0)["bleu"].value
    signs = measure(pairs, replace(GenerateSettings(metrics=("bleu",)), bleu_tokenize="zh"), seed=0)["bleu"].value
    assert words == 0
    assert signs > 50


def test_the_same_seed_gives_the_same_intervals() -> None:
    assert measure(PAIRS, GenerateSettings(), seed=3) == measure(PAIRS, GenerateSettings(), seed=3)
    assert (
        measure(PAIRS, GenerateSettings(), seed=3)["rouge_l"] != measure(PAIRS, GenerateSettings(), seed=4)["rouge_l"]
    )
