"""A comparison as files: `comparison.json`, a Markdown table, and the plot."""

from __future__ import annotations

import re

from tunesmith.comparison.figures import cells, heads, in_words
from tunesmith.comparison.plot import draw
from tunesmith.comparison.result import Comparison
from tunesmith.store import write_file, write_json

NAME = "comparison"


def write(comparison: Comparison) -> None:
    """Write the three files into the comparison's folder.

    Raises:
        DiskError: they cannot be written.
    """
    write_json(comparison.folder / f"{NAME}.json", comparison.describe())
    write_file(comparison.folder / f"{NAME}.md", markdown(comparison))
    write_file(comparison.folder / f"{NAME}.svg", draw(comparison))


def markdown(comparison: Comparison) -> str:
    """The table, the plot below it, and the machine, as Markdown."""
    columns = heads(comparison)
    found = [cells(comparison, method) for method in (*comparison.done, *comparison.undone)]
    lines = [in_words(comparison), "", row(columns), "| --- |" + " ---: |" * (len(columns) - 1)]
    lines.extend(row(texts) for texts in found)
    lines.extend(["", f"![the same as a plot]({NAME}.svg)", "", _machine(comparison), ""])
    return "\n".join(lines)


def row(texts: list[str]) -> str:
    """One line of a Markdown table; what a cell holds is text."""
    return f"| {' | '.join(_escaped(text) for text in texts)} |"


def _escaped(text: str) -> str:
    return re.sub(r"([|<>`*_\\])", r"\\\1", " ".join(text.split()))


def _machine(comparison: Comparison) -> str:
    found = comparison.environment
    libraries = ", ".join(f"{name} {version}" for name, version in found["libraries"].items())
    return f"{found['platform']}, {found['cpus']} processors, Python {found['python']}, {libraries}."
