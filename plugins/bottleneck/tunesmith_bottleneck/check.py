"""What can be said about the settings without a model."""

from __future__ import annotations

from pathlib import Path

from tunesmith_bottleneck import HoulsbySettings, PfeifferSettings


def houlsby(settings: HoulsbySettings, folder: Path) -> tuple[str, ...]:
    """What moves, in words."""
    return _told("two bottlenecks a block", settings.layer_norms)


def pfeiffer(settings: PfeifferSettings, folder: Path) -> tuple[str, ...]:
    """What moves, in words."""
    return _told("one bottleneck a block", settings.layer_norms)


def _told(what: str, norms: bool) -> tuple[str, ...]:
    return (f"moves: {what}{' and all layer norms' * norms}; stays: the rest of the base model",)
