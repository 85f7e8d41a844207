"""The evaluator `retrieval`: what one gets without a model, the answer of the most similar training row."""

from __future__ import annotations

from tunesmith import Context, DataError, Dataset, Evaluation, ModelHandle, Sample
from tunesmith_evaluate.metrics import measure
from tunesmith_evaluate.nearest import Nearest, example, training_examples
from tunesmith_evaluate.settings import RetrievalSettings


def evaluate(handle: ModelHandle, data: Dataset, settings: RetrievalSettings, context: Context) -> Evaluation:
    """The measures of `generate`, named `exact_match_retrieval` and so on; the same before and after training.

    Raises:
        DataError: no training row has an answer, or no held-out row a reference.
    """
    examples = training_examples(data)
    nearest = Nearest(examples)
    records = data.validation.spread(settings.rows)
    asked = [(name, one) for name, row in records if (one := example(row, data.type)).answer]
    if not asked:
        raise DataError("no held-out row has a reference to compare with", fix="Look at [data].")
    answers = [examples[nearest.to(one, 1)[0]].answer for _, one in asked]
    pairs = [(answer, one.answer) for answer, (_, one) in zip(answers, asked, strict=True)]
    measures = measure(pairs, settings, context.seed, [name for name, _ in asked])
    count = min(settings.samples, len(asked))
    shown = [index * len(asked) // count for index in range(count)]
    return Evaluation(
        measures={f"{name}_retrieval": found for name, found in measures.items()},
        samples=tuple(
            Sample(row=asked[i][0], prompt=asked[i][1].text, answer=answers[i], reference=asked[i][1].answer)
            for i in shown
        ),
    )
