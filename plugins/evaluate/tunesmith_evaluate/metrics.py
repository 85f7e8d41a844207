"""How near answers come to their references, each figure with a 95 % interval over rows."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from rouge_score.rouge_scorer import RougeScorer
from rouge_score.tokenizers import Tokenizer
from sacrebleu.metrics import BLEU, CHRF

from tunesmith import Measure
from tunesmith.stats import RESAMPLES, bootstrap_mean
from tunesmith_evaluate.settings import GenerateSettings, RetrievalSettings

# Han, Hiragana and Katakana have no blanks between words: each sign counts as one
_SIGNS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_WORDS = re.compile(rf"[{_SIGNS}]|[^\W_{_SIGNS}]+")


def measure(
    pairs: Sequence[tuple[str, str]],
    settings: GenerateSettings | RetrievalSettings,
    seed: int,
    rows: Sequence[str] = (),
) -> dict[str, Measure]:
    """The measures that `settings.metrics` names: `exact_match`, `rouge_l`, `bleu`, `chrf`.

    Args:
        pairs: answer and reference of each row, at least one.
        seed: of the bootstrap.
        rows: their names.
    """
    makers: dict[str, Callable[[], Measure]] = {
        "exact-match": lambda: _mean([exact_match(*pair, settings.normalize) for pair in pairs], seed),
        "rouge-l": lambda: _mean(rouge_l(pairs), seed),
        "bleu": lambda: _corpus(BLEU(tokenize=settings.bleu_tokenize, force=True), pairs, seed),
        "chrf": lambda: _corpus(CHRF(), pairs, seed),
    }
    found = {name.replace("-", "_"): makers[name]() for name in dict.fromkeys(settings.metrics)}
    return {name: replace(one, rows=tuple(rows) if one.per_row else ()) for name, one in found.items()}


def exact_match(answer: str, reference: str, normalize: bool) -> float:
    """1 where both are equal, else 0; blanks around them never count."""
    prepare: Callable[[str], str] = normalized if normalize else str.strip
    return float(prepare(answer) == prepare(reference))


def normalized(text: str) -> str:
    """`text` in one case, with single blanks, without punctuation at its end."""
    return " ".join(text.casefold().split()).rstrip(".,;:!? ")


def rouge_l(pairs: Sequence[tuple[str, str]]) -> list[float]:
    """The F-measure of the longest common subsequence of words of each row, 0 to 1 (Lin 2004)."""
    scorer = RougeScorer(["rougeL"], use_stemmer=False, tokenizer=Words())
    return [scorer.score(reference, answer)["rougeL"].fmeasure for answer, reference in pairs]


class Words(Tokenizer):
    """Words in lower case: the library's own for ASCII, and letters of any script beyond it.

    The library's own tokenizer drops all but a-z and 0-9, which gives 0 for two equal Russian sentences.
    """

    def tokenize(self, text: str) -> list[str]:
        return _WORDS.findall(text.lower())


def _mean(values: Sequence[float], seed: int) -> Measure:
    value, low, high = bootstrap_mean(values, seed=seed)
    return Measure(value=value, low=low, high=high, n=len(values), better="higher", per_row=tuple(values))


def _corpus(metric: BLEU | CHRF, pairs: Sequence[tuple[str, str]], seed: int) -> Measure:
    """A score over all rows at once, 0 to 100; the interval is the percentile bootstrap over rows."""
    answers, references = ([text.strip() for text in side] for side in zip(*pairs, strict=True))
    value = metric.corpus_score(answers, [references]).score
    # sacrebleu's own bootstrap takes no seed, tells no percentiles, and fails where a chrF resample shares nothing
    counts = np.array(metric._extract_corpus_statistics(answers, [references]))  # (rows, counts)
    draw = np.random.default_rng(seed)
    drawn = sorted(
        metric._compute_score_from_stats(counts[draw.integers(len(counts), size=len(counts))].sum(0).tolist()).score
        for _ in range(RESAMPLES)
    )
    low, high = drawn[int(0.025 * RESAMPLES)], drawn[int(0.975 * RESAMPLES)]
    return Measure(value=value, low=low, high=high, n=len(pairs), better="higher", unit="0-100")
