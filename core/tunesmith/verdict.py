"""What a run or a comparison of runs came to, in a few lines that a person reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

#: Heading of each group of measures, in the order in which a person wants to know.
GROUPS = (
    ("better", "better"),
    ("worse", "worse"),
    ("no difference shown", "unclear"),
    ("no change", "unchanged"),
    ("not tested", "untested"),
)


def in_words(moved: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Pairs of heading and text, one a group that has a measure.

    Args:
        moved: `paired.Moved` as plain data, as `verdict` of `results.json` holds it.
    """
    lines = []
    for outcome, heading in GROUPS:
        named = [_one(measure) for measure in moved if measure["outcome"] == outcome]
        if named:
            lines.append((heading, "; ".join(named)))
    return lines


def p_value(p: float | None) -> str:
    """A probability as it is printed: three digits, and nothing below 0.001."""
    if p is None:
        return ""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _one(measure: Mapping[str, Any]) -> str:
    told = f"{measure['name']} {short(measure['before'])} to {short(measure['after'])}"
    return f"{told} ({p_value(measure['p'])})" if measure["p"] is not None else told


def short(value: float) -> str:
    """Four significant digits."""
    return f"{value:.4g}" if abs(value) < 10_000 else f"{value:,.0f}"
