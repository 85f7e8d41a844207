"""Examples in the prompt, and the baseline that looks answers up."""

from __future__ import annotations

from typing import Any

import pytest

from tunesmith import Context, DataError, Dataset, ModelHandle, Records
from tunesmith_evaluate import few_shot, retrieval
from tunesmith_evaluate.few_shot import prompt
from tunesmith_evaluate.nearest import Example, Nearest, example
from tunesmith_evaluate.settings import FewShotSettings, RetrievalSettings

TOPICS = ("card lost abroad", "transfer is pending", "top up by cheque", "exchange rate wrong", "pin code blocked")


def data(record_type: Any, rows: list[dict[str, Any]], held: list[dict[str, Any]]) -> Dataset:
    def named(part: str, found: list[dict[str, Any]]) -> Records:
        return Records(found, [f"{part}.jsonl:{number}" for number in range(1, len(found) + 1)])

    return Dataset(type=record_type, train=named("train", rows), validation=named("held", held))


LABELLED = data(
    "text-label",
    [{"text": f"my {topic}", "label": topic.split()[0]} for topic in TOPICS],
    [{"text": f"help, {topic}!", "label": topic.split()[0]} for topic in TOPICS],
)


def test_rows_are_asked_with_their_examples(
    tiny_handle: ModelHandle, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def generate(handle: ModelHandle, prompts: list[list[int]], **options: Any) -> list[str]:
        seen.extend(handle.tokenizer.decode(ids) for ids in prompts)
        return ["card"] * len(prompts)

    monkeypatch.setattr("tunesmith_evaluate.generate.generate", generate)
    settings = FewShotSettings(shots=2, choose="bm25", max_new_tokens=4, metrics=("exact-match",))
    found = few_shot.evaluate(tiny_handle, LABELLED, settings, context)
    assert list(found.measures) == ["exact_match_2_shot"]
    assert found.measures["exact_match_2_shot"].value == pytest.approx(1 / 5)
    for text, topic in zip(seen, TOPICS, strict=True):
        first, second, asked = text.split("\n\n")
        assert second.endswith(f"my {topic} {topic.split()[0]}"), "the nearest stands last"
        assert first != second
        assert asked == f"help, {topic}!"


def test_random_examples_differ_by_row_and_fixed_ones_do_not(
    tiny_handle: ModelHandle, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, list[str]] = {}

    def run(choose: str, seed: int) -> list[str]:
        texts: list[str] = []

        def generate(handle: ModelHandle, prompts: list[list[int]], **options: Any) -> list[str]:
            texts.extend(handle.tokenizer.decode(ids).rpartition("\n\n")[0] for ids in prompts)
            return [""] * len(prompts)

        monkeypatch.setattr("tunesmith_evaluate.generate.generate", generate)
        settings = FewShotSettings(shots=2, choose=choose, max_new_tokens=4)  # type: ignore[arg-type]
        few_shot.evaluate(tiny_handle, LABELLED, settings, context.with_(seed=seed))
        return texts

    for choose in ("random", "fixed"):
        asked[choose] = run(choose, 1)
        assert asked[choose] == run(choose, 1)
        assert asked[choose] != run(choose, 2)
    assert len(set(asked["random"])) > 1
    assert len(set(asked["fixed"])) == 1


def test_a_conversation_gets_its_examples_as_turns() -> None:
    def talk(text: str) -> list[dict[str, str]]:
        return [{"role": "system", "content": "Be brief."}, {"role": "user", "content": text}]

    shown = [Example(talk("2+2"), "4"), Example("3+3", "6")]
    assert prompt(shown, Example(talk("4+4"), ""), "\n\n") == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "2+2"},
        {"role": "assistant", "content": "4"},
        {"role": "user", "content": "3+3"},
        {"role": "assistant", "content": "6"},
        {"role": "user", "content": "4+4"},
    ]
    assert prompt([Example("2+2=", " 4")], Example("4+4=", ""), "; ") == "2+2= 4; 4+4="


def test_every_type_of_row_is_a_question_with_an_answer() -> None:
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    assert example({"messages": turns}, "messages") == Example(turns[:1], "hello")
    assert example({"prompt": "hi", "completion": "hello"}, "prompt-completion") == Example("hi", "hello")
    assert example({"text": "hi", "label": 3}, "text-label") == Example("hi", "3")


def test_the_nearest_shares_the_rarest_words() -> None:
    nearest = Nearest([Example(f"my {topic}", "") for topic in TOPICS])
    assert nearest.to(Example("the exchange of my card", ""), 1) == [3]
    assert len(nearest.to(Example("nothing alike", ""), 99)) == len(TOPICS)


def test_the_baseline_gives_the_answer_of_the_nearest_row(tiny_handle: ModelHandle, context: Context) -> None:
    found = retrieval.evaluate(tiny_handle, LABELLED, RetrievalSettings(metrics=("exact-match",)), context)
    assert found.measures["exact_match_retrieval"].value == 1.0
    assert found.samples[0].answer == "card"


def test_rows_without_answers_are_refused(tiny_handle: ModelHandle, context: Context) -> None:
    silent = data("messages", [{"messages": [{"role": "user", "content": "hi"}]}], LABELLED.validation.rows[:0])  # type: ignore[arg-type]
    with pytest.raises(DataError, match="no training row has an answer"):
        retrieval.evaluate(tiny_handle, silent, RetrievalSettings(), context)
