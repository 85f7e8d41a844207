"""The settings of every step. Light: imported by listing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from tunesmith import Ge, Interval, Settings


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
class DeduplicateSettings(TextSettings):
    """Settings of `deduplicate`."""

    method: Literal["exact", "minhash"] = "exact"
    """exact drops equal texts; minhash also those that share most of their n-grams (Broder 1997)."""
    ignore: tuple[Literal["case", "whitespace", "punctuation"], ...] = ("case", "whitespace")
    """What does not count in the comparison."""
    threshold: Annotated[float, Interval(gt=0, le=1)] = 0.8
    """Jaccard similarity of the n-grams, estimated, from which on a row is a near duplicate, 0 to 1."""
    ngram: Annotated[int, Ge(1)] = 3
    """Words of an n-gram. A shorter text is one n-gram."""
    permutations: Annotated[int, Interval(ge=16, le=4096)] = 128
    """Hash functions of the estimate: more are more exact, and take more time and memory (4 bytes each a row)."""
