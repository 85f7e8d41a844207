"""Evaluators that let the model answer held-out rows and compare its answers with the data's."""

from __future__ import annotations

from collections.abc import Iterator

from tunesmith import Evaluator, hookimpl
from tunesmith_evaluate.settings import FewShotSettings, GenerateSettings, RetrievalSettings

SCORES = ("rouge_score", "sacrebleu")
MEASURES = ("exact_match", "rouge_l", "bleu", "chrf")


@hookimpl
def tunesmith_evaluators() -> Iterator[Evaluator]:
    """Answers and how near they come to their references."""
    yield Evaluator(
        name="generate",
        summary="Answers to held-out prompts against their references: exact match, ROUGE-L, BLEU, chrF",
        factory="tunesmith_evaluate.generate:evaluate",
        measures=MEASURES,
        settings=GenerateSettings,
        requires=("torch", "transformers", "tunesmith_transformers", *SCORES),
        accepts=("prompt-completion", "messages", "prompt"),
    )
    yield Evaluator(
        name="few-shot",
        summary="The same with training rows as examples in the prompt: random, fixed, or retrieved by BM25",
        factory="tunesmith_evaluate.few_shot:evaluate",
        measures=tuple(f"{name}_*_shot" for name in MEASURES),
        settings=FewShotSettings,
        requires=("torch", "transformers", "tunesmith_transformers", "bm25s", *SCORES),
        accepts=("prompt-completion", "messages", "text-label"),
    )
    yield Evaluator(
        name="retrieval",
        summary="A baseline without a model: the answer of the training row most like the prompt, by BM25",
        factory="tunesmith_evaluate.retrieval:evaluate",
        measures=tuple(f"{name}_retrieval" for name in MEASURES),
        settings=RetrievalSettings,
        requires=("tunesmith_transformers", "bm25s", *SCORES),
        accepts=("prompt-completion", "messages", "text-label"),
    )
