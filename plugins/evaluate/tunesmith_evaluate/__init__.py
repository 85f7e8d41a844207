"""Evaluators that let the model answer held-out rows and compare its answers with the data's."""

from __future__ import annotations

from collections.abc import Iterator

from tunesmith import Evaluator, hookimpl
from tunesmith_evaluate.settings import GenerateSettings


@hookimpl
def tunesmith_evaluators() -> Iterator[Evaluator]:
    """Answers and how near they come to their references."""
    yield Evaluator(
        name="generate",
        summary="Answers to held-out prompts against their references: exact match, ROUGE-L, BLEU, chrF",
        factory="tunesmith_evaluate.generate:evaluate",
        settings=GenerateSettings,
        requires=("torch", "transformers", "tunesmith_transformers", "rouge_score", "sacrebleu"),
        accepts=("prompt-completion", "messages", "prompt"),
    )
