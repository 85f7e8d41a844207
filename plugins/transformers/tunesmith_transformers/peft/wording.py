"""What an adapter will train, in words: for the plan, before any model is there. No torch here."""

from __future__ import annotations

from collections.abc import Sequence


def layers(targets: str | Sequence[str]) -> str:
    """`target_modules` of a recipe in words."""
    return "all linear layers but the head" if targets == "all-linear" else ", ".join(targets)


def moves(what: str, stays: str = "the base model") -> tuple[str, ...]:
    """The plan's sentence on what moves and what stays."""
    return (f"moves: {what}; stays: {stays}",)
