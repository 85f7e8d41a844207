"""Settings of the evaluators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from tunesmith import Ge, Gt, MinLen, Settings

Metric = Literal["exact-match", "rouge-l", "bleu", "chrf"]


@dataclass(frozen=True, kw_only=True)
class GenerateSettings(Settings):
    """How answers are generated and what is measured on them."""

    rows: Annotated[int, Gt(0)] | None = None
    """Held-out rows to answer, evenly spread over all of them; None answers all."""
    max_new_tokens: Annotated[int, Gt(0)] = 64
    """Longest answer, in tokens; a prompt that leaves no room for it in the model's context is left out."""
    batch_size: Annotated[int, Gt(0)] = 16
    """Rows that are answered at once; more are faster and take more memory."""
    temperature: Annotated[float, Ge(0)] = 0.0
    """0 takes the likeliest token each time; above 0 tokens are drawn, by the run's seed."""
    metrics: Annotated[tuple[Metric, ...], MinLen(1)] = ("exact-match", "rouge-l", "bleu", "chrf")
    """What is measured where the rows have references."""
    normalize: bool = True
    """Exact match ignores case, runs of blanks, and punctuation at the end."""
    bleu_tokenize: Literal["13a", "intl", "zh", "char", "none"] = "13a"
    """sacrebleu's tokenizer for BLEU; 13a suits languages with blanks between words, zh Chinese."""
    samples: Annotated[int, Ge(0)] = 5
    """Rows to return with their answers, spread evenly over those answered; the same before and after."""


@dataclass(frozen=True, kw_only=True)
class FewShotSettings(GenerateSettings):
    """Which examples stand in the prompt."""

    shots: Annotated[int, Ge(0)] = 4
    """Examples in the prompt; 0 asks without any."""
    choose: Literal["random", "fixed", "bm25"] = "random"
    """Which training rows: drawn for each row by the run's seed, the same drawn ones for all, or those most like it by
    BM25, the nearest last."""
    separator: str = "\n\n"
    """What stands between examples of plain text; conversations have turns."""


@dataclass(frozen=True, kw_only=True)
class RetrievalSettings(Settings):
    """How the answer of the nearest training row is measured."""

    rows: Annotated[int, Gt(0)] | None = None
    """Held-out rows to answer, evenly spread over all of them; None answers all."""
    metrics: Annotated[tuple[Metric, ...], MinLen(1)] = ("exact-match", "rouge-l", "bleu", "chrf")
    """What is measured."""
    normalize: bool = True
    """Exact match ignores case, runs of blanks, and punctuation at the end."""
    bleu_tokenize: Literal["13a", "intl", "zh", "char", "none"] = "13a"
    """sacrebleu's tokenizer for BLEU; 13a suits languages with blanks between words, zh Chinese."""
    samples: Annotated[int, Ge(0)] = 5
    """Rows to return with their answers, spread evenly over those answered."""
