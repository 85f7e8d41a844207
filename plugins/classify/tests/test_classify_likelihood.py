"""A language model asked for labels: its scores by hand, the cached and the plain way, and what it is asked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tunesmith import Context, DataError, Dataset, RecipeError, Records
from tunesmith_classify.asked import asked
from tunesmith_classify.likelihood import evaluate
from tunesmith_classify.scoring import _Cached, _Plain, answer_scores
from tunesmith_classify.settings import LikelihoodSettings

PROMPTS = [[5, 6, 7, 8], [5, 6, 9], [5, 6, 7, 9, 10]]
ANSWERS = [[11, 257], [11, 12, 13, 257], [14], [15, 16, 257]]
SETTINGS = LikelihoodSettings(prompt="Which of {labels} is {text}?", batch_size=2)


def labelled(count: int = 8) -> Dataset:
    rows = [{"text": f"text {n}", "label": ("good_one", "bad", "fair")[n % 3]} for n in range(count)]
    records = Records(rows, [f"rows:{n}" for n in range(count)])
    return Dataset(type="text-label", train=records, validation=records)


def by_hand(model: Any, prompt: list[int], answer: list[int]) -> float:
    ids = torch.tensor([[*prompt, *answer]])
    with torch.no_grad():
        logs = model(ids).logits[0].log_softmax(-1)
    return sum(logs[len(prompt) + place - 1, token].item() for place, token in enumerate(answer))


def test_the_scores_by_hand_cached_and_plain(tiny_handle: Any) -> None:
    expected = [[by_hand(tiny_handle.model, prompt, answer) for answer in ANSWERS] for prompt in PROMPTS]
    for batch_size in (1, 3):
        found = answer_scores(tiny_handle, PROMPTS, ANSWERS, [{}] * 3, batch_size, Context())
        np.testing.assert_allclose(found, expected, atol=1e-4)
    assert _Cached(tiny_handle.model, PROMPTS).shared == 2
    with torch.inference_mode():
        plain = [_Plain(tiny_handle)(prompt, ANSWERS, {}, 3) for prompt in PROMPTS]
    np.testing.assert_allclose(plain, expected, atol=1e-4)


def test_the_likeliest_label_is_the_answer(tiny_handle: Any) -> None:
    data = labelled()
    question = asked(tiny_handle, data, data.validation, SETTINGS)
    assert question.names == ("bad", "fair", "good_one")
    text = tiny_handle.tokenizer.decode(question.questions[0].ids)
    assert "Which of bad, fair, good one is text 0?" in text
    assert text.endswith("assistant\n")
    assert tiny_handle.tokenizer.decode(question.answers[2]) == "good one<|im_end|>"
    scores = [[by_hand(tiny_handle.model, [*q.ids], [*a]) for a in question.answers] for q in question.questions]
    targets = [question.names.index(q.label) for q in question.questions]
    expected = np.mean(np.argmax(scores, axis=1) == targets)
    found = evaluate(tiny_handle, data, SETTINGS, Context())
    assert found.measures["accuracy"].value == pytest.approx(expected)
    assert found.matrices[0].rows == ("bad", "fair", "good_one")
    lengths = np.array([len(answer) for answer in question.answers])
    means = evaluate(tiny_handle, data, LikelihoodSettings(prompt=SETTINGS.prompt, normalize="tokens"), Context())
    by_mean = np.mean(np.argmax(np.array(scores) / lengths, axis=1) == targets)
    assert means.measures["accuracy"].value == pytest.approx(by_mean)
    prior = [by_hand(tiny_handle.model, [*question.prior], [*answer]) for answer in question.answers]
    gains = evaluate(tiny_handle, data, LikelihoodSettings(prompt=SETTINGS.prompt, normalize="prior"), Context())
    by_gain = np.mean(np.argmax(np.array(scores) - prior, axis=1) == targets)
    assert gains.measures["accuracy"].value == pytest.approx(by_gain)


def test_rows_with_prompts_ask_themselves(tiny_handle: Any) -> None:
    rows = [{"prompt": f"{n}?", "completion": ("yes", "no")[n % 2]} for n in range(8)]
    data = Dataset(
        type="prompt-completion", train=Records(rows, list("abcdefgh")), validation=Records(rows[:3], list("abc"))
    )
    question = asked(tiny_handle, data, data.validation, LikelihoodSettings())
    assert question.names == ("no", "yes")
    assert [q.label for q in question.questions] == ["yes", "no", "yes"]
    assert tiny_handle.tokenizer.decode(question.questions[0].ids) == "0?"
    chats = [
        {"messages": [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["completion"]}]}
        for row in rows
    ]
    talk = Dataset(type="messages", train=Records(chats, list("abcdefgh")), validation=Records(chats[:3], list("abc")))
    assert asked(tiny_handle, talk, talk.validation, LikelihoodSettings()).names == ("no", "yes")
    assert evaluate(tiny_handle, talk, LikelihoodSettings(), Context()).measures["accuracy"].n == 3


def test_answers_that_are_no_labels_are_refused(tiny_handle: Any) -> None:
    rows = [{"prompt": f"{n}?", "completion": f"answer {n}"} for n in range(8)]
    data = Dataset(
        type="prompt-completion", train=Records(rows, list("abcdefgh")), validation=Records(rows, list("abcdefgh"))
    )
    with pytest.raises(DataError, match="are no labels: 8 different ones in 8 rows"):
        evaluate(tiny_handle, data, LikelihoodSettings(), Context())


def test_a_classifier_is_measured_by_the_other_evaluator(tiny_handle: Any) -> None:
    from dataclasses import replace

    from tunesmith_classify.classification import evaluate as classification
    from tunesmith_classify.settings import ClassificationSettings

    with pytest.raises(RecipeError, match="asks a language model; this one has a 'sequence-labels' head"):
        evaluate(replace(tiny_handle, head="sequence-labels"), labelled(), LikelihoodSettings(), Context())
    with pytest.raises(RecipeError, match="this one has a 'causal-lm' head"):
        classification(tiny_handle, labelled(), ClassificationSettings(), Context())


def test_virtual_tokens_are_asked_the_plain_way(tiny_handle: Any) -> None:
    from tunesmith_soft_prompts.adapters import prompt
    from tunesmith_soft_prompts.settings import PromptSettings

    adapted = prompt(tiny_handle, PromptSettings(), Context(device="cpu"))
    handle = adapted.handle
    handle.model = adapted.model
    found = answer_scores(handle, PROMPTS, ANSWERS, [{}] * 3, 4, Context())
    again = answer_scores(handle, PROMPTS, ANSWERS, [{}] * 3, 1, Context())
    np.testing.assert_allclose(found, again, atol=1e-4)
