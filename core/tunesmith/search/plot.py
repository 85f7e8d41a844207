"""A search as one picture: every trial in its order with the best so far, and how much each key decided.

The SVG stands alone: colours for light and dark pages are in it, and its text is text.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tunesmith.chart import ticks_of
from tunesmith.findings import picture
from tunesmith.markup import Html, element

if TYPE_CHECKING:
    from tunesmith.search.result import Search

WIDTH, LEFT, RIGHT = 760, 80, 24  # units of the SVG's coordinates
TOP, PLOT, GAP, ROW = 44, 240, 80, 26
NAMES, FIGURES = 260, 60
OWN = """
polyline { fill: none; stroke: #0b63c9; stroke-width: 2; } .gone { fill: none; stroke: #59636e; }
.share { fill: #0b63c9; opacity: .75; }
@media (prefers-color-scheme: dark) {
  polyline { stroke: #6cb0ff; } .gone { stroke: #9aa4b0; } .share { fill: #6cb0ff; }
}
"""


def draw(search: Search) -> str:
    """The whole SVG."""
    bars = list(search.importances.items())
    height = TOP + PLOT + GAP + (ROW * len(bars) + 40 if bars else 0)
    best = search.best
    said = f"{len(search.trials)} trials" + (f", the best {search.measure} {best.value:.4g}" if best else "")
    return picture(said, WIDTH, height, [*_history(search), *_importances(bars)], OWN)


def _history(search: Search) -> list[Html]:
    """A ring a trial that was given up, a dot one that ended, and a line at the best so far."""
    known = [(t.number, t.value, t.outcome) for t in search.trials if t.value is not None and math.isfinite(t.value)]
    head = f"{search.measure} of each trial ({search.better} is better); rings were given up; line: best so far"
    parts = [element("text", head, x=LEFT, y=22, class_="head")]
    if not known:
        return [*parts, element("text", "no trial has ended", x=LEFT, y=TOP + 30, class_="dim")]
    ticks = ticks_of(min(value for _, value, _ in known), max(value for _, value, _ in known))
    last = max(len(search.trials) - 1, 1)

    def place(number: int, value: float) -> tuple[float, float]:
        x = LEFT + (WIDTH - LEFT - RIGHT) * number / last
        return round(x, 1), round(TOP + PLOT * (1 - (value - ticks[0]) / (ticks[-1] - ticks[0])), 1)

    for tick in ticks:
        _, y = place(0, tick)
        parts.append(element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y))
        parts.append(element("text", f"{tick:g}", x=LEFT - 10, y=y + 4, text_anchor="end", class_="tick"))
    sign, best = (1 if search.better == "lower" else -1), math.inf
    line: list[tuple[float, float]] = []
    for number, value, outcome in known:
        if outcome == "done" and sign * value < best:
            if line:
                line.append(place(number, sign * best))
            best = sign * value
            line.append(place(number, value))
    if line:
        line.append(place(last, sign * best))
        parts.append(element("polyline", points=" ".join(f"{x},{y}" for x, y in line)))
    for number, value, outcome in known:
        x, y = place(number, value)
        hover = element("title", f"trial {number + 1}: {value:.4g}, {outcome}")
        style = "mark" if outcome == "done" else "gone"
        parts.append(element("g", hover, element("circle", cx=x, cy=y, r=4, class_=style)))
    for number in sorted({0, last // 2, last}):
        x, _ = place(number, ticks[0])
        parts.append(element("text", f"{number + 1}", x=x, y=TOP + PLOT + 20, text_anchor="middle", class_="tick"))
    parts.append(element("text", "trial", x=WIDTH - RIGHT, y=TOP + PLOT + 38, text_anchor="end", class_="tick"))
    return parts


def _importances(bars: list[tuple[str, float]]) -> list[Html]:
    if not bars:
        return []
    top = TOP + PLOT + GAP
    parts = [element("text", "how much each key decided", x=LEFT, y=top, class_="head")]
    room = WIDTH - NAMES - FIGURES - RIGHT
    for index, (key, share) in enumerate(bars):
        y = top + 16 + ROW * index
        parts.append(element("text", key, x=NAMES - 12, y=y + 14, text_anchor="end"))
        parts.append(element("rect", x=NAMES, y=y + 3, width=round(room * share, 1), height=14, class_="share"))
        parts.append(element("text", f"{share:.0%}", x=round(NAMES + room * share + 8, 1), y=y + 14))
    return parts
