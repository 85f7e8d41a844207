"""What can be known about the settings without a model: what will move, and that a pattern is one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunesmith import RecipeError
from tunesmith_full import FullSettings, HeadSettings, LastLayersSettings, RegexSettings

#: What the weights of a head for labels or scores are called, by the type of the model; others are left to the run.
DECODER = ("score.weight", "score.bias")
ENCODER = ("classifier.weight", "classifier.bias")
HEADS = {
    **dict.fromkeys(("llama", "mistral", "smollm3", "qwen2", "qwen3", "gemma", "gemma2", "phi3", "gpt2"), DECODER),
    **dict.fromkeys(("bert", "electra"), ENCODER),
}


def full(settings: FullSettings, folder: Path) -> tuple[str, ...]:
    """What moves, in words."""
    return ("moves: every parameter; stays: nothing",)


def head(settings: HeadSettings, folder: Path) -> tuple[str, ...]:
    """What moves, in words."""
    return ("moves: the output head, with the embeddings where these are tied to it; stays: everything else",)


def last_layers(settings: LastLayersSettings, folder: Path) -> tuple[str, ...]:
    """What moves, in words."""
    blocks = "the last block" if settings.layers == 1 else f"the last {settings.layers} blocks"
    rest = ", the final norm and the output head, with the embeddings where these are tied to it" * settings.head
    return (f"moves: {blocks}{rest}; stays: everything else",)


def pattern(settings: RegexSettings, folder: Path) -> tuple[str, ...]:
    """What moves, in words; the pattern must be a regular expression.

    Raises:
        RecipeError: it is not.
    """
    try:
        re.compile(settings.pattern)
    except re.error as error:
        raise RecipeError(f"pattern = {settings.pattern!r} is not a regular expression: {error}") from error
    return (f"moves: the parameters in whose name {settings.pattern!r} is found; stays: everything else",)


def own(settings: FullSettings | HeadSettings | LastLayersSettings | RegexSettings, head: str) -> bool:
    """What moves is the model's own."""
    return True


def last_layers_fit(settings: LastLayersSettings, config: Mapping[str, Any] | None, head: str) -> None:
    """A head that the role puts on the model must be trained; and the model must have that many blocks.

    Raises:
        RecipeError: it would stay as it was drawn, or there are fewer.
    """
    if head != "causal-lm" and not settings.head:
        raise RecipeError(
            "head = false leaves the model's new head untrained",
            fix="Set head = true in [adapter].",
            setting=("head",),
        )
    blocks = (config or {}).get("num_hidden_layers")
    if isinstance(blocks, int) and settings.layers > blocks:
        raise RecipeError(
            f"layers = {settings.layers}, but the model has {blocks} blocks",
            fix=f"Set layers = {blocks} or less in [adapter].",
            setting=("layers",),
        )


def pattern_fits(settings: RegexSettings, config: Mapping[str, Any] | None, head: str) -> None:
    """A head that the role puts on the model must be trained, where its names are known.

    Raises:
        RecipeError: the pattern is found in none of them.
    """
    names = HEADS.get(str((config or {}).get("model_type")), ()) if head != "causal-lm" else ()
    if names and not any(re.search(settings.pattern, name) for name in names):
        raise RecipeError(
            f"pattern = {settings.pattern!r} leaves the model's new head untrained: {names[0]}",
            fix=f"Let it match the head's weights too: pattern = '{settings.pattern}|{names[0].partition('.')[0]}'.",
            setting=("pattern",),
        )
