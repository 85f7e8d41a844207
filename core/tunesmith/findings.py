"""What a command found, as files: data, a Markdown page, and a picture.

The SVG stands alone: colours for light and dark pages are in it, and its text is text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tunesmith.markup import Html, element, joined
from tunesmith.store import write_file, write_json

STYLE = """
svg { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
.page { fill: #ffffff; } .stripe { fill: #f5f6f8; } text { fill: #1f2328; } .dim { fill: #59636e; }
.head { font-weight: 600; } .failed { fill: #b3261e; } .tick { font-size: 11px; fill: #59636e; }
line { stroke: #d3d8de; stroke-width: 1; } line.bar { stroke: #0b63c9; stroke-width: 2; opacity: .45; }
line.base { stroke: #59636e; stroke-dasharray: 4 3; } .mark { fill: #0b63c9; }
.mark.base { fill: #ffffff; stroke: #59636e; stroke-width: 2; }
@media (prefers-color-scheme: dark) {
  .page { fill: #14171c; } .stripe { fill: #1b1f26; } text { fill: #e6e9ee; } .dim, .tick { fill: #9aa4b0; }
  .failed { fill: #ff8a80; } line { stroke: #333a44; } line.bar, .mark { stroke: #6cb0ff; } .mark { fill: #6cb0ff; }
  .mark.base { fill: #14171c; stroke: #9aa4b0; } line.base { stroke: #9aa4b0; }
}
"""


def write(folder: Path, name: str, data: Mapping[str, Any], page: str, picture: str) -> None:
    """Write NAME.json, NAME.md and NAME.svg.

    Raises:
        DiskError: they cannot be written.
    """
    write_json(folder / f"{name}.json", data)
    write_file(folder / f"{name}.md", page)
    write_file(folder / f"{name}.svg", picture)


def row(texts: Sequence[str]) -> str:
    """One line of a Markdown table; what a cell holds is text."""
    return f"| {' | '.join(_escaped(text) for text in texts)} |"


def picture(title: str, width: int, height: int, body: Iterable[Html], style: str = "") -> str:
    """A whole SVG.

    Args:
        title: what a reader who cannot see it is told.
        width, height: units of its coordinates.
        style: CSS besides `STYLE`.
    """
    drawing = element(
        "svg",
        element("title", title),
        element("style", Html(STYLE + style)),
        element("rect", class_="page", width=width, height=height),
        joined(body),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {width} {height}",
        width=width,
        height=height,
        role="img",
    )
    return f"{drawing}\n"


def _escaped(text: str) -> str:
    return re.sub(r"([|<>`*_\\])", r"\\\1", " ".join(text.split()))
