"""A comparison as files: `comparison.json`, a Markdown table, and the plot."""

from __future__ import annotations

from tunesmith import findings
from tunesmith.comparison.figures import cells, heads, in_words
from tunesmith.comparison.plot import draw
from tunesmith.comparison.result import Comparison
from tunesmith.findings import row

NAME = "comparison"


def write(comparison: Comparison) -> None:
    """Write the three files into the comparison's folder.

    Raises:
        DiskError: they cannot be written.
    """
    findings.write(comparison.folder, NAME, comparison.describe(), markdown(comparison), draw(comparison))


def markdown(comparison: Comparison) -> str:
    """The table, the plot below it, and the machine, as Markdown."""
    columns = heads(comparison)
    found = [cells(comparison, method) for method in (*comparison.done, *comparison.undone)]
    lines = [in_words(comparison), "", row(columns), "| --- |" + " ---: |" * (len(columns) - 1)]
    lines.extend(row(texts) for texts in found)
    lines.extend(["", f"![the same as a plot]({NAME}.svg)", "", _machine(comparison), ""])
    return "\n".join(lines)


def _machine(comparison: Comparison) -> str:
    found = comparison.environment
    libraries = ", ".join(f"{name} {version}" for name, version in found["libraries"].items())
    return f"{found['platform']}, {found['cpus']} processors, Python {found['python']}, {libraries}."
