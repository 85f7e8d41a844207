"""The settings of every step. Light: imported by listing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from tunesmith import Ge, Gt, Interval, Len, MinLen, Settings


@dataclass(frozen=True, kw_only=True)
class TextSettings(Settings):
    """What the steps that look at text take."""

    columns: tuple[str, ...] = ()
    """Columns to look at; empty takes every one that holds text, but not `label`. Of messages the contents count."""


@dataclass(frozen=True, kw_only=True)
class NormaliseSettings(TextSettings):
    """Settings of `normalise`."""

    unicode: Literal["NFC", "NFKC", "NFD", "NFKD", "keep"] = "NFC"
    """Normal form of Unicode. NFKC also turns ligatures, full-width letters and the like into plain ones."""
    whitespace: Literal["tidy", "collapse", "keep"] = "tidy"
    """tidy makes line ends and spaces plain, and removes blanks at the ends of lines and of the text; collapse turns
    every run of blanks and line ends into one space."""
    control: Literal["remove", "keep"] = "remove"
    """Control characters (NUL and the like, but not tab and line end), zero-width spaces, and marks that turn the
    reading order. Lone surrogates become U+FFFD."""


@dataclass(frozen=True, kw_only=True)
class MarkupSettings(TextSettings):
    """Settings of `markup`."""

    entities: bool = True
    """Whether `&amp;` and the like become the characters that they stand for."""


@dataclass(frozen=True, kw_only=True)
class MissingSettings(Settings):
    """Settings of `missing`."""

    drop: tuple[str, ...] = ()
    """Columns without which a row is dropped."""
    refuse: tuple[str, ...] = ()
    """Columns without which the run is refused; the row is named."""
    fill: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    """What stands in a column where it is missing: {input = "none"}."""
    blank: bool = True
    """Whether text of nothing but blanks counts as missing. A null and a column that is not there always do."""
    values: tuple[str, ...] = ()
    """Texts that count as missing too, such as "N/A"; case and blanks around them do not matter."""


@dataclass(frozen=True, kw_only=True)
class LikenessSettings(TextSettings):
    """How texts are compared."""

    method: Literal["exact", "minhash"] = "exact"
    """exact finds equal texts; minhash also those that share most of their n-grams (Broder 1997)."""
    ignore: tuple[Literal["case", "whitespace", "punctuation"], ...] = ("case", "whitespace")
    """What does not count in the comparison."""
    threshold: Annotated[float, Interval(gt=0, le=1)] = 0.8
    """Jaccard similarity of the n-grams, estimated, from which on two rows are near duplicates, 0 to 1."""
    ngram: Annotated[int, Ge(1)] = 3
    """Words of an n-gram. A shorter text is one n-gram."""
    permutations: Annotated[int, Interval(ge=16, le=4096)] = 128
    """Hash functions of the estimate: more are more exact, and take more time and memory (4 bytes each a row)."""


@dataclass(frozen=True, kw_only=True)
class DeduplicateSettings(LikenessSettings):
    """Settings of `deduplicate`."""


@dataclass(frozen=True, kw_only=True)
class OverlapSettings(LikenessSettings):
    """Settings of `overlap`."""

    drop: Literal["held-out", "training"] = "held-out"
    """Of a pair on both sides of the split: the held-out row, or the training row, which leaves a benchmark whole."""


@dataclass(frozen=True, kw_only=True)
class LengthSettings(TextSettings):
    """Settings of `length`."""

    unit: Literal["characters", "words"] = "characters"
    """What is counted, over all text of a row."""
    min: Annotated[int, Ge(0)] = 1
    """Shorter rows are dropped."""
    max: Annotated[int, Ge(1)] | None = None
    """Longer rows are dropped; None sets no limit. Tokens are counted by the trainer (`max_length`)."""


@dataclass(frozen=True, kw_only=True)
class LanguageSettings(TextSettings):
    """Settings of `language`."""

    keep: Annotated[tuple[str, ...], MinLen(1)]
    """Languages of the rows to keep, by their codes of ISO 639-1: ["en", "de"]."""
    among: tuple[str, ...] = ()
    """Languages that come into question; empty for all that py3langid knows. A few make short texts surer."""
    min_confidence: Annotated[float, Interval(ge=0, le=1)] = 0.5
    """Probability from which on a language counts as recognised, 0 to 1. Other rows are kept, and noted."""
    min_characters: Annotated[int, Ge(0)] = 20
    """Shorter texts are kept without a look: they say too little."""


@dataclass(frozen=True, kw_only=True)
class PersonalDataSettings(TextSettings):
    """Settings of `personal-data`."""

    find: Annotated[tuple[Literal["email", "phone", "card", "iban"], ...], MinLen(1)] = (
        "email",
        "phone",
        "card",
        "iban",
    )
    """What to look for. Cards must pass Luhn's check, IBANs their checksum; phones must be numbers that can exist."""
    action: Literal["report", "mask", "drop"] = "report"
    """report counts rows; mask writes [EMAIL], [PHONE], [CARD], [IBAN] instead; drop leaves the row out."""
    region: Annotated[str, Len(2, 2)] | None = None
    """Country whose national phone numbers are found, as "US"; None finds those that begin with + only."""


@dataclass(frozen=True, kw_only=True)
class BalanceSettings(Settings):
    """Settings of `balance`."""

    column: Annotated[str, MinLen(1)] = "label"
    """The column that holds the class."""
    method: Literal["report", "weights", "oversample", "undersample"] = "report"
    """report counts; weights adds a column `weight`, rows / (classes x rows of the class); oversample repeats rows of
    small classes; undersample drops rows of large ones. Rows are drawn by the run's seed."""
    ratio: Annotated[float, Ge(1)] = 1.0
    """How many times the smallest class the largest may be, after resampling."""


@dataclass(frozen=True, kw_only=True)
class FewShotSettings(Settings):
    """Settings of `few-shot`."""

    shots: Annotated[int, Gt(0)] = 5
    """Training rows of each class that are left; a smaller class keeps what it has."""
    column: Annotated[str, MinLen(1)] = "label"
    """The column that holds the class."""
    seed: int | None = None
    """Seed of the draw; None takes the run's."""


@dataclass(frozen=True, kw_only=True)
class AugmentSettings(TextSettings):
    """Settings of `augment`. Its `columns` are by default `prompt`, `text` and what users say in `messages`."""

    methods: Annotated[tuple[Literal["synonyms", "typos", "case", "noise", "templates"], ...], MinLen(1)] = (
        "typos",
        "case",
    )
    """Each copy is made by one of these, drawn by the run's seed."""
    copies: Annotated[int, Gt(0)] = 1
    """Copies of each chosen row."""
    share: Annotated[float, Interval(gt=0, le=1)] = 1.0
    """Share of the training rows that are chosen, 0 to 1."""
    rate: Annotated[float, Interval(gt=0, le=1)] = 0.1
    """Share of the words that synonyms, typos and noise change, 0 to 1; one at least."""
    templates: tuple[str, ...] = (
        "Please help me with this: {text}",
        "I have a question. {text}",
        "{text} Please answer.",
        "Here is what I need: {text}",
    )
    """Ways to put an instruction; `{text}` stands for it."""
    synonyms: Path | None = None
    """A JSON file of words with lists of synonyms: {"card": ["debit card"]}; None takes WordNet."""
    wordnet: Path | None = None
    """Folder of WordNet's database files; None looks where NLTK and Debian's package wordnet-base put them."""
