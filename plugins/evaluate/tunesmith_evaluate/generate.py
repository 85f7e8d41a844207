"""The evaluator `generate`: let the model answer held-out rows, and compare the answers with the data's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunesmith import Context, DataError, Dataset, Evaluation, ModelHandle, Records, Sample
from tunesmith.spec import RecordType
from tunesmith.turns import in_words
from tunesmith_evaluate.metrics import measure
from tunesmith_evaluate.settings import GenerateSettings
from tunesmith_transformers.evaluation.generation import generate
from tunesmith_transformers.tokens.encoding import Unusable, column_values, prompt_ids, reference

NAMED = 5  # rows that a warning names


@dataclass(frozen=True)
class Question:
    """One row that the model is asked; `reference` is empty where the data has no answer."""

    row: str
    ids: list[int]
    prompt: str
    reference: str
    columns: Mapping[str, int]


def evaluate(handle: ModelHandle, data: Dataset, settings: GenerateSettings, context: Context) -> Evaluation:
    """Answer held-out rows; measure those that have references.

    Rows of type `prompt`, and conversations that end without an answer, give samples only.

    Raises:
        DataError: no row can be asked.
    """
    records = data.validation.spread(settings.rows)
    references = [reference(row, data.type, handle.tokenizer) for _, row in records]
    return answered(handle, records, data.type, references, settings, context)


def answered(
    handle: ModelHandle,
    records: Records,
    record_type: RecordType,
    references: Sequence[str],
    settings: GenerateSettings,
    context: Context,
) -> Evaluation:
    """Answer rows; measure those that have references.

    Args:
        references: of each row, empty where there is none.

    Raises:
        DataError: no row can be asked.
    """
    questions, left_out = _questions(handle, records, record_type, references, settings)
    if left_out:
        context.reporter.warn(_said(left_out))
    if not questions:
        raise DataError(
            "no held-out row can be answered",
            details=[f"{row}: {reason}" for row, reason in list(left_out.items())[:NAMED]],
            fix="Lower max_new_tokens of the evaluator, or hold out other rows in [data].",
        )
    answers = generate(
        handle,
        [question.ids for question in questions],
        max_new_tokens=settings.max_new_tokens,
        batch_size=settings.batch_size,
        temperature=settings.temperature,
        seed=context.seed,
        columns=[question.columns for question in questions],
        context=context,
    )
    scored = {q.row: (answer, q.reference) for answer, q in zip(answers, questions, strict=True) if q.reference}
    measures = measure(list(scored.values()), settings, context.seed, list(scored)) if scored else {}
    count = min(settings.samples, len(questions))
    shown = [index * len(questions) // count for index in range(count)]
    return Evaluation(measures=measures, samples=tuple(_sample(questions[i], answers[i]) for i in shown))


def _questions(
    handle: ModelHandle,
    records: Records,
    record_type: RecordType,
    references: Sequence[str],
    settings: GenerateSettings,
) -> tuple[list[Question], dict[str, str]]:
    """The rows to ask, and why others are left out."""
    new = settings.max_new_tokens
    room = None if handle.max_length is None else handle.max_length - new
    questions: list[Question] = []
    left_out: dict[str, str] = {}
    for (name, row), wanted in zip(records, references, strict=True):
        try:
            ids = prompt_ids(row, record_type, handle.tokenizer)
        except Unusable as error:
            left_out[name] = str(error)
            continue
        if not ids:
            left_out[name] = "its prompt is empty"
        elif room is not None and len(ids) > room:
            left_out[name] = f"its prompt leaves no room for {new} new tokens in {handle.max_length}"
        else:
            columns = column_values(row, handle.columns)
            questions.append(Question(name, ids, _prompt(row, record_type), wanted, columns))
    return questions, left_out


def _said(left_out: Mapping[str, str]) -> str:
    """How many rows are left out, and for each reason the first of them."""
    by_reason: dict[str, list[str]] = {}
    for row, reason in left_out.items():
        by_reason.setdefault(reason, []).append(row)
    parts = [
        f"{reason}: {', '.join(rows[:NAMED])}{', ...' if len(rows) > NAMED else ''}"
        for reason, rows in by_reason.items()
    ]
    return f"{len(left_out)} held-out rows are not answered ({'; '.join(parts)})"


def _prompt(row: Mapping[str, Any], record_type: str) -> str:
    """What is asked, for a person to read: the text, or the turns before the answer."""
    if record_type != "messages":
        return in_words(row["prompt"])
    messages = list(row["messages"])
    while messages[-1]["role"] == "assistant":
        messages.pop()
    return in_words(messages)


def _sample(question: Question, answer: str) -> Sample:
    return Sample(row=question.row, prompt=question.prompt, answer=answer, reference=question.reference)
