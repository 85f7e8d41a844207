"""The evaluator `few-shot`: answers with training rows as examples in the prompt (Brown et al. 2020, 2005.14165)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tunesmith import Context, Dataset, Evaluation, ModelHandle, Records
from tunesmith_evaluate.generate import answered
from tunesmith_evaluate.nearest import Example, Nearest, example, training_examples
from tunesmith_evaluate.settings import FewShotSettings
from tunesmith_transformers.tokens.rendering import extras


def evaluate(handle: ModelHandle, data: Dataset, settings: FewShotSettings, context: Context) -> Evaluation:
    """The measures of `generate`, named `exact_match_4_shot` and so on.

    A prompt that is too long with its examples is left out, and named.

    Raises:
        DataError: no training row has an answer, or no held-out row can be asked.
    """
    examples = training_examples(data) if settings.shots else []
    records = data.validation.spread(settings.rows)
    asked = [example(row, data.type) for _, row in records]
    chosen = _chosen(asked, list(records.ids), examples, settings, context.seed)
    rows = [
        {**extras(row), "prompt": prompt(shown, one, settings.separator)}
        for row, one, shown in zip(records.rows, asked, chosen, strict=True)
    ]
    references = [one.answer for one in asked]
    found = answered(handle, Records(rows, list(records.ids)), "prompt", references, settings, context)
    return replace(found, measures={f"{name}_{settings.shots}_shot": one for name, one in found.measures.items()})


def prompt(shown: Sequence[Example], asked: Example, separator: str) -> str | list[dict[str, Any]]:
    """A question behind its examples: turns behind turns, or text behind text.

    The system prompt of the question stays in front; those of the examples are left out.
    """
    if isinstance(asked.prompt, str):
        told = [f"{one.prompt}{_answer(one)}{separator}" for one in shown]
        return "".join([*told, asked.prompt])
    system = [turn for turn in asked.prompt if turn["role"] == "system"]
    turns: list[dict[str, Any]] = []
    for one in shown:
        own = one.prompt if not isinstance(one.prompt, str) else [{"role": "user", "content": one.prompt}]
        turns += [turn for turn in own if turn["role"] != "system"]
        turns.append({"role": "assistant", "content": one.answer})
    return [*system, *turns, *(turn for turn in asked.prompt if turn["role"] != "system")]


def _answer(one: Example) -> str:
    """The answer of a plain example, apart from its question by a blank at least."""
    apart = "" if one.answer[:1].isspace() or str(one.prompt)[-1:].isspace() else " "
    return f"{apart}{one.answer}"


def _chosen(
    asked: Sequence[Example], names: Sequence[str], examples: Sequence[Example], settings: FewShotSettings, seed: int
) -> list[list[Example]]:
    """The examples of each question, in the order in which they stand in its prompt."""
    count = min(settings.shots, len(examples))
    if settings.choose == "bm25" and count:
        nearest = Nearest(examples)
        return [[examples[place] for place in reversed(nearest.to(one, count))] for one in asked]
    if settings.choose == "fixed":
        same = random.Random(f"{seed}:few-shot").sample(list(examples), count)
        return [same for _ in asked]
    return [random.Random(f"{seed}:few-shot:{name}").sample(list(examples), count) for name in names]
