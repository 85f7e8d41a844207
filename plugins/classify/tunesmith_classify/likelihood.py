"""The evaluator `label-likelihood`: of all labels, the one that a language model finds likeliest."""

from __future__ import annotations

import numpy as np

from tunesmith import Context, Dataset, Evaluation, ModelHandle, RecipeError
from tunesmith_classify.asked import asked
from tunesmith_classify.judged import one_label
from tunesmith_classify.scoring import answer_scores
from tunesmith_classify.settings import LikelihoodSettings


def evaluate(handle: ModelHandle, data: Dataset, settings: LikelihoodSettings, context: Context) -> Evaluation:
    """The measures of `classification` where the model can say nothing but a label.

    A label's probability is its share among all labels (rank classification, Brown et al. 2020, arXiv 2005.14165,
    section 2.4). `prior` divides by p(label | no text): Holtzman et al. 2021, arXiv 2104.08315, equation 2.

    Raises:
        RecipeError: the model has no language-model head.
        DataError: no held-out row can be asked, or the rows' answers are no labels.
    """
    if handle.head != "causal-lm":
        raise RecipeError(
            f"label-likelihood asks a language model; this one has a {handle.head!r} head",
            fix='Write use = "classification" in [[evaluate]].',
        )
    found = asked(handle, data, data.validation.spread(settings.rows), settings)
    if found.left_out:
        first = ", ".join(f"{row}: {reason}" for row, reason in list(found.left_out.items())[:3])
        context.reporter.warn(f"{len(found.left_out)} held-out rows are not asked ({first})")
    prompts = [question.ids for question in found.questions]
    columns = [question.columns for question in found.questions]
    if settings.normalize == "prior":
        prompts, columns = [*prompts, found.prior], [*columns, columns[0]]
    scores = answer_scores(handle, prompts, found.answers, columns, settings.batch_size, context)
    if settings.normalize == "prior":
        scores = scores[:-1] - scores[-1]
    elif settings.normalize == "tokens":
        scores = scores / np.array([len(answer) for answer in found.answers])
    scores = scores - scores.max(axis=1, keepdims=True)
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    unknown = dict.fromkeys(q.label for q in found.questions if q.label not in found.names)
    names = (*found.names, *unknown)
    targets = [names.index(question.label) for question in found.questions]
    rows = [(question.row, question.text) for question in found.questions]
    return one_label(probabilities, targets, rows, names, settings, context.seed)
