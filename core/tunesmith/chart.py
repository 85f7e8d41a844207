"""A line chart as inline SVG: the lines stretch with the page, the figures beside them do not."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tunesmith.markup import Html, element, joined

Point = tuple[float, float]

WIDTH, HEIGHT = 1000, 300  # units of the SVG's own coordinates
POINTS = 400  # drawn at most; more would not be seen
SMOOTHED_FROM = 30  # points from which a smoothed line is drawn over the plain one


def line_chart(title: str, points: Sequence[Point], x_name: str, ideal: Sequence[Point] = ()) -> Html:
    """One series over `x_name`; empty when there are fewer than two finite points.

    Args:
        ideal: a line to compare it with, drawn thin.
    """
    points = thinned([p for p in points if all(map(math.isfinite, p))], POINTS)
    if len(points) < 2:
        return Html("")
    shown = [*points, *ideal]
    ticks = ticks_of(min(y for _, y in shown), max(y for _, y in shown))
    left, right = min(x for x, _ in shown), max(x for x, _ in shown)
    bottom, top = ticks[0], ticks[-1]

    def placed(series: Sequence[Point]) -> str:
        return " ".join(
            f"{(x - left) / ((right - left) or 1) * WIDTH:.1f},{HEIGHT - (y - bottom) / (top - bottom) * HEIGHT:.1f}"
            for x, y in series
        )

    many = len(points) >= SMOOTHED_FROM
    lines = [element("polyline", points=placed(points), class_="faint" if many else "strong")]
    if many:
        lines.append(element("polyline", points=placed(smoothed(points)), class_="strong"))
    if ideal:
        lines.append(element("polyline", points=placed(ideal), class_="faint"))
    ends = [f"{y:.4g} at {x_name} {x:.4g}" for x, y in (points[0], points[-1])]
    caption = [element("b", title), f" · {points[0][1]:.4g} to {points[-1][1]:.4g}"]
    caption.append(" · thin: as logged, thick: smoothed" if many else " · thin: ideal" if ideal else "")
    return _figure(caption, lines, [], ticks, (x_name, left, right), f"{title}: {', '.join(ends)}")


def bar_chart(title: str, edges: Sequence[float], counts: Sequence[float], x_name: str) -> Html:
    """A histogram: `counts` over the bins between `edges`, of which there is one more."""
    if not counts or len(edges) != len(counts) + 1:
        return Html("")
    ticks = ticks_of(0, max(counts))
    top, span = ticks[-1], (edges[-1] - edges[0]) or 1
    bars = [
        element(
            "rect",
            x=f"{(low - edges[0]) / span * WIDTH:.1f}",
            width=f"{(high - low) / span * WIDTH:.1f}",
            y=f"{HEIGHT * (1 - count / top):.1f}",
            height=f"{HEIGHT * count / top:.1f}",
        )
        for low, high, count in zip(edges, edges[1:], counts, strict=False)
    ]
    said = f"{title}: {sum(counts):g} from {x_name} {edges[0]:g} to {edges[-1]:g}"
    return _figure([element("b", title)], [], bars, ticks, (x_name, edges[0], edges[-1]), said)


def ticks_of(low: float, high: float) -> list[float]:
    """Three to seven round values that enclose `low` and `high`."""
    span = high - low or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / 4))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if span / (power * factor) <= 5)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    return [float(f"{number * step:.12g}") for number in range(first, last + 1)]


def thinned(points: Sequence[Point], limit: int) -> list[Point]:
    """At most `limit` points: neighbours are averaged, the last one of each group gives the place."""
    size = math.ceil(len(points) / limit) or 1
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    kept = [(group[-1][0], sum(y for _, y in group) / len(group)) for group in groups]
    return [(points[0][0], kept[0][1]), *kept[1:]] if kept else []


def smoothed(points: Sequence[Point]) -> list[Point]:
    """A mean over a window of a tenth of the points around each."""
    reach = max(1, len(points) // 20)
    found = []
    for index, (x, _) in enumerate(points):
        window = points[max(0, index - reach) : index + reach + 1]
        found.append((x, sum(y for _, y in window) / len(window)))
    return found


def _figure(
    caption: Sequence[Html | str],
    lines: Sequence[Html],
    bars: Sequence[Html],
    ticks: Sequence[float],
    x: tuple[str, float, float],
    said: str,
) -> Html:
    """Lines or bars over a grid, with figures beside it that keep their shape.

    Args:
        x: the horizontal axis: its name and its ends.
        said: what a person who does not see the picture is told.
    """
    bottom, top = ticks[0], ticks[-1]
    shares = [(tick - bottom) / (top - bottom) for tick in ticks]
    grid = [element("line", x1=0, x2=WIDTH, y1=HEIGHT * (1 - s), y2=HEIGHT * (1 - s)) for s in shares]
    drawing = element(
        "svg",
        joined([*grid, *bars, *lines]),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        preserveAspectRatio="none",
        role="img",
        aria_label=said,
    )
    labels = [
        element("span", f"{tick:g}", style=f"bottom:{share * 100:.2f}%")
        for tick, share in zip(ticks, shares, strict=True)
    ]
    widest = max(len(f"{tick:g}") for tick in ticks)
    name, left, right = x
    return element(
        "figure",
        element("figcaption", *caption),
        element("div", joined(labels), class_="y", style=f"width:{widest}ch"),
        element("div", drawing, class_="plot"),
        element("div", element("span", f"{name} {left:g}"), element("span", f"{right:g}"), class_="x"),
        class_="chart",
    )
