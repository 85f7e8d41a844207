"""A range test as one picture: the loss of each step over its rate, the smoothed loss, and the rates to choose from.

The SVG stands alone: colours for light and dark pages are in it, and its text is text.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tunesmith.chart import ticks_of
from tunesmith.comparison.axis import Axis
from tunesmith.findings import picture
from tunesmith.markup import Html, element

if TYPE_CHECKING:
    from tunesmith.rates.result import RangeTest

WIDTH, HEIGHT = 760, 400  # units of the SVG's coordinates
LEFT, RIGHT, TOP, BOTTOM = 80, 24, 64, 344
OWN = """
polyline { fill: none; stroke: #0b63c9; stroke-width: 2; } .one { fill: #0b63c9; opacity: .4; }
.range { fill: #1a7f37; opacity: .16; } line.rate { stroke: #1a7f37; stroke-width: 2; }
line.end { stroke: #b3261e; stroke-dasharray: 4 3; }
@media (prefers-color-scheme: dark) {
  polyline { stroke: #6cb0ff; } .one { fill: #6cb0ff; }
  .range { fill: #56d364; } line.rate { stroke: #56d364; } line.end { stroke: #ff8a80; }
}
"""


def draw(test: RangeTest) -> str:
    """The whole SVG."""
    found = test.reading
    said = f"a learning rate of {found.rate:g}" if found.rate else f"no learning rate: {found.reason}"
    return picture(f"Range test: {said}", WIDTH, HEIGHT, _drawn(test), OWN)


def _drawn(test: RangeTest) -> list[Html]:
    found, course = test.reading, test.reading.course
    head = "loss of each step (dots), and smoothed (line), over the learning rate"
    parts = [
        element("text", head, x=LEFT, y=22, class_="head"),
        element("text", _marks(test), x=LEFT, y=44, class_="dim"),
    ]
    if not course:
        return [*parts, element("text", "no step was taken", x=LEFT, y=TOP + 30, class_="dim")]
    across = Axis(LEFT, WIDTH - RIGHT, test.low, test.high, logarithmic=True)
    # losses that diverge would press the others flat: those far above the smoothed line are left out
    top = max(course) + (max(course) - min(course)) / 2 if test.diverged or found.rose else math.inf
    shown = [*course, *(loss for loss in test.losses if loss <= top)]
    ticks = ticks_of(min(shown), max(shown))
    up = Axis(BOTTOM, TOP, ticks[0], ticks[-1])
    for tick in ticks:
        y = round(up.place(tick), 1)
        parts.append(element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y))
        parts.append(element("text", f"{tick:g}", x=LEFT - 10, y=y + 4, text_anchor="end", class_="tick"))
    for power, x in _powers(across):
        parts.append(element("text", f"1e{power}", x=x, y=BOTTOM + 20, text_anchor="middle", class_="tick"))
    parts.append(element("text", "learning rate", x=WIDTH - RIGHT, y=BOTTOM + 40, text_anchor="end", class_="tick"))
    if found.rate and found.high:
        left, right = across.place(found.rate), across.place(found.high)
        parts.append(_upright(left, "rate"))
        size = {"width": round(right - left, 1), "height": BOTTOM - TOP}
        parts.append(element("rect", x=round(left, 1), y=TOP, class_="range", **size))
    if test.diverged:
        parts.append(_upright(across.place(test.diverged), "end"))
    for rate, loss in zip(test.rates, test.losses, strict=True):
        if up.holds(loss):
            hover = element("title", f"{loss:.4g} at {rate:.2g}")
            at = {"cx": round(across.place(rate), 1), "cy": round(up.place(loss), 1)}
            parts.append(element("g", hover, element("circle", r=3, class_="one", **at)))
    line = [f"{across.place(rate):.1f},{up.place(loss):.1f}" for rate, loss in zip(test.rates, course, strict=True)]
    return [*parts, element("polyline", points=" ".join(line))]


def _marks(test: RangeTest) -> str:
    found = test.reading
    told = [f"green: from {found.rate:g} to {found.high:g}"] if found.rate else ["no rate can be told"]
    return "; ".join([*told, *([f"red: diverged at {test.diverged:.2g}"] if test.diverged else [])])


def _powers(across: Axis) -> list[tuple[int, float]]:
    """The powers of ten on the axis, and where they are."""
    powers = [power for power in range(-30, 31) if across.holds(10.0**power)]
    return [(power, round(across.place(10.0**power), 1)) for power in powers]


def _upright(x: float, style: str) -> Html:
    return element("line", x1=round(x, 1), x2=round(x, 1), y1=TOP, y2=BOTTOM, class_=style)
