"""The evaluator on a tiny model: which rows are asked, scored, shown and left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

import tunesmith_evaluate
from tunesmith import Context, DataError, Dataset, ModelHandle, Records
from tunesmith.context import SilentReporter
from tunesmith_evaluate.generate import evaluate
from tunesmith_evaluate.settings import GenerateSettings

SETTINGS = GenerateSettings(max_new_tokens=6, batch_size=4)


class Heard(SilentReporter):
    """Keeps the warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, message: str) -> None:
        self.warnings.append(message)


def held_out(record_type: Any, rows: Sequence[Mapping[str, Any]]) -> Dataset:
    validation = Records(rows, [f"data.jsonl:{number}" for number in range(1, len(rows) + 1)])
    return Dataset(type=record_type, train=Records([], []), validation=validation)


def pairs(count: int) -> Dataset:
    rows = [{"prompt": f"Add {n} and {n * 7}:", "completion": f" {n * 8}."} for n in range(count)]
    return held_out("prompt-completion", rows)


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def test_conformance(check_plugin: Callable[..., Any]) -> None:
    check_plugin(tunesmith_evaluate)


def test_rows_are_answered_and_scored(tiny_handle: ModelHandle, context: Context) -> None:
    found = evaluate(tiny_handle, pairs(7), SETTINGS, context)
    assert list(found.measures) == ["exact_match", "rouge_l", "bleu", "chrf"]
    assert all(measure.n == 7 for measure in found.measures.values())
    assert len(found.samples) == 5
    assert found.samples[0].row == "data.jsonl:1"
    assert (found.samples[0].prompt, found.samples[0].reference) == ("Add 0 and 0:", " 0.")
    assert all(sample.answer for sample in found.samples)


def test_the_models_own_answer_as_reference_is_an_exact_match(tiny_handle: ModelHandle, context: Context) -> None:
    data = pairs(6)
    answers = {s.row: s.answer for s in evaluate(tiny_handle, data, replace(SETTINGS, samples=6), context).samples}
    rows = [{**row, "completion": answers[name]} for name, row in data.validation]
    # an answer may be all blanks, and equal then too
    found = evaluate(tiny_handle, held_out("prompt-completion", rows), SETTINGS, context)
    assert found.measures["exact_match"].value == 1.0


def test_the_samples_are_the_same_rows_each_time_and_spread(tiny_handle: ModelHandle, context: Context) -> None:
    first = evaluate(tiny_handle, pairs(10), replace(SETTINGS, samples=3), context)
    again = evaluate(tiny_handle, pairs(10), replace(SETTINGS, samples=3), context)
    assert first == again
    assert [sample.row for sample in first.samples] == ["data.jsonl:1", "data.jsonl:4", "data.jsonl:7"]
    assert evaluate(tiny_handle, pairs(3), replace(SETTINGS, samples=0), context).samples == ()


def test_rows_limits_what_is_answered(tiny_handle: ModelHandle, context: Context) -> None:
    found = evaluate(tiny_handle, pairs(9), replace(SETTINGS, rows=2), context)
    assert found.measures["rouge_l"].n == 2
    assert [sample.row for sample in found.samples] == ["data.jsonl:1", "data.jsonl:5"]


def test_a_conversation_is_asked_for_its_last_answer(tiny_handle: ModelHandle, context: Context) -> None:
    data = held_out(
        "messages",
        [
            {"messages": [user("Hi"), assistant("Hello"), user("Bye"), assistant("See you")]},
            {"messages": [user("One"), assistant("Two")]},
        ],
    )
    found = evaluate(tiny_handle, data, SETTINGS, context)
    assert found.measures["exact_match"].n == 2
    long, short = found.samples
    assert (long.prompt, long.reference) == ("user: Hi\n\nassistant: Hello\n\nuser: Bye", "See you")
    assert (short.prompt, short.reference) == ("One", "Two")


def test_a_conversation_without_a_last_answer_is_shown_but_not_scored(
    tiny_handle: ModelHandle, context: Context
) -> None:
    data = held_out(
        "messages",
        [
            {"messages": [user("Hi"), assistant("Hello"), user("Bye")]},
            {"messages": [user("Hi"), assistant("Hello")]},
        ],
    )
    found = evaluate(tiny_handle, data, SETTINGS, context)
    assert found.measures["exact_match"].n == 1
    assert found.samples[0].reference == ""


def test_message_lists_as_prompt_and_completion(tiny_handle: ModelHandle, context: Context) -> None:
    data = held_out("prompt-completion", [{"prompt": [user("Ask")], "completion": [assistant("Answer")]}])
    (sample,) = evaluate(tiny_handle, data, SETTINGS, context).samples
    assert (sample.prompt, sample.reference) == ("Ask", "Answer")


def test_prompts_alone_give_samples_only(tiny_handle: ModelHandle, context: Context) -> None:
    found = evaluate(tiny_handle, held_out("prompt", [{"prompt": "Tell me"}]), SETTINGS, context)
    assert found.measures == {}
    assert len(found.samples) == 1


def test_rows_that_cannot_be_asked_are_named(tiny_handle: ModelHandle, context: Context) -> None:
    heard = Heard()
    tiny_handle.max_length = 30
    rows = [{"prompt": "x" * length, "completion": "y"} for length in (24, 25, 0, 3, 40, 40, 40, 40, 40)]
    found = evaluate(tiny_handle, held_out("prompt-completion", rows), SETTINGS, context.with_(reporter=heard))
    assert found.measures["rouge_l"].n == 2
    (warning,) = heard.warnings
    assert warning.startswith("7 held-out rows are not answered")
    assert "no room for 6 new tokens in 30: data.jsonl:2, data.jsonl:5" in warning
    assert "..." in warning
    assert "data.jsonl:9" not in warning
    assert "its prompt is empty: data.jsonl:3" in warning


def test_nothing_to_ask_is_an_error_that_says_why(tiny_handle: ModelHandle, context: Context) -> None:
    data = held_out("messages", [{"messages": [assistant("Only me")]}])
    with pytest.raises(DataError) as caught:
        evaluate(tiny_handle, data, SETTINGS, context)
    assert "data.jsonl:1: no message before the answer" in str(caught.value)


def test_a_temperature_draws_by_the_runs_seed(tiny_handle: ModelHandle, context: Context) -> None:
    hot = replace(SETTINGS, temperature=3.0)
    first = evaluate(tiny_handle, pairs(4), hot, context)
    assert evaluate(tiny_handle, pairs(4), hot, context) == first
    assert evaluate(tiny_handle, pairs(4), hot, context.with_(seed=7)).samples != first.samples
