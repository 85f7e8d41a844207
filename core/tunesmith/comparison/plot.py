"""A comparison as one picture, a line a method: quality, trained parameters, memory, time, size, general ability.

The SVG stands alone: colours for light and dark pages are in it, and its text is text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from tunesmith.comparison.axis import Axis, linear_axis, log_axis
from tunesmith.comparison.figures import counted, outcome, short, signed, size
from tunesmith.comparison.result import Comparison, Method
from tunesmith.findings import picture
from tunesmith.markup import Html, element

ROW, TOP, BOTTOM = 26, 64, 34  # units of the SVG's coordinates
NAMES = 215
LETTERS, LETTERS_OF_ERROR = 26, 110
#: Of each panel: the width of its axis, and that of the figures behind it.
QUALITY, TRAINED, MEMORY, SECONDS, SIZE, ABILITY = (250, 95), (150, 80), (120, 85), (110, 75), (130, 105), (200, 65)
Figure = Callable[[Method], Mapping[str, Any] | None]


def draw(comparison: Comparison) -> str:
    """The whole SVG."""
    done, undone = comparison.done, comparison.undone
    panels, width = _panels(comparison)
    height = TOP + ROW * (len(done) + len(undone)) + BOTTOM
    body: list[Html] = []
    for index in range(0, len(done) + len(undone), 2):
        body.append(element("rect", class_="stripe", x=0, y=TOP + index * ROW, width=width, height=ROW))
    for index, method in enumerate((*done, *undone)):
        style = "dim" if method is comparison.base else "failed" if method.status == "failed" else None
        name = _cut(method.name, LETTERS)
        body.append(element("text", name, x=NAMES - 14, y=_y(index) + 4.5, text_anchor="end", class_=style))
        if method.status != "done":
            body.append(
                element("text", _cut(outcome(method), LETTERS_OF_ERROR), x=NAMES, y=_y(index) + 4.5, class_="dim")
            )
    body.extend(panels)
    said = f"{comparison.measure} of {len(done) - 1} methods and the base model, with what each costs"
    return picture(said, width, height, body)


def _panels(comparison: Comparison) -> tuple[list[Html], int]:
    """The panels from left to right, and where the last one ends."""
    done, base = comparison.done, comparison.base.name
    methods = [method for method in done if method is not comparison.base]
    better = comparison.base.measures[comparison.measure]["better"]
    quality = {method.name: method.measures[comparison.measure] for method in done}
    trained = {m.name: {"value": m.trainable_parameters} for m in methods if m.trainable_parameters}
    memory = {m.name: {"value": m.memory["bytes"] / 2**20} for m in done if m.memory}
    seconds = {m.name: {"value": m.train_seconds} for m in methods}
    sizes = {m.name: {"value": m.size} for m in methods if m.size}
    whole = "{:,.0f}".format
    found: list[tuple[str, Mapping[str, Any], Callable[[float], str], tuple[int, int]]] = [
        (f"{comparison.measure} ({better} is better)", quality, short, QUALITY),
        ("trained parameters", trained, counted, TRAINED),
        ("peak memory, MiB", memory, whole, MEMORY),
        ("training, s", seconds, whole, SECONDS),
        ("size, bytes", sizes, lambda value: size(round(value)), SIZE),
    ]
    if comparison.general_measure is not None:
        moved = {m.name: m.general_change for m in done if m.general_change is not None}
        found.append((f"general {comparison.general_measure}, change in %", moved, signed, ABILITY))
    drawn, place = [], NAMES
    for title, figures, shown, (wide, behind) in found:
        axis = (
            log_axis(figures, place, wide)
            if figures is trained or figures is sizes
            else linear_axis(figures, base, place, wide)
        )
        drawn.append(_panel(comparison, title, figures, shown, axis))
        place += wide + behind
    return drawn, place


def _panel(
    comparison: Comparison, title: str, figures: Mapping[str, Any], shown: Callable[[float], str], axis: Axis | None
) -> Html:
    """A heading, a grid, and a mark with its interval and its figure for each method that has one."""
    if axis is None:
        return Html("")
    bottom = TOP + ROW * len(comparison.done)
    parts = [element("text", title, x=axis.left, y=26, class_="head")]
    for place, label in axis.ticks:
        parts.append(element("line", x1=place, x2=place, y1=TOP - 6, y2=bottom))
        parts.append(element("text", label, x=place, y=TOP - 12, text_anchor="middle", class_="tick"))
    base = figures.get(comparison.base.name)
    if base and not math.isnan(base["value"]):
        place = round(axis.place(base["value"]), 1)
        parts.append(element("line", x1=place, x2=place, y1=TOP - 6, y2=bottom, class_="base"))
    for index, method in enumerate(comparison.done):
        figure = figures.get(method.name)
        if figure and not math.isnan(figure["value"]):
            parts.append(_mark(method, figure, shown, axis, _y(index), is_base=method is comparison.base))
    return element("g", *parts)


def _mark(
    method: Method, figure: Mapping[str, Any], shown: Callable[[float], str], axis: Axis, y: float, *, is_base: bool
) -> Html:
    value, low, high = figure["value"], figure.get("low"), figure.get("high")
    x = round(axis.place(value), 1)
    style = "mark base" if is_base else "mark"
    parts = [element("title", f"{method.name}: {shown(value)}")]
    if low is not None and high is not None:
        parts.append(
            element("line", x1=round(axis.place(low), 1), x2=round(axis.place(high), 1), y1=y, y2=y, class_="bar")
        )
    if axis.holds(value):
        parts.append(element("circle", cx=x, cy=y, r=4.5, class_=style))
    else:  # an arrow where the value lies outside
        way = 6 if value > axis.low else -6
        parts.append(element("polyline", points=f"{x - way},{y - 5} {x},{y} {x - way},{y + 5}", class_=style))
    parts.append(element("text", shown(value), x=axis.right + 12, y=y + 4.5, class_="dim" if is_base else None))
    return element("g", *parts, class_="method")


def _y(index: int) -> float:
    return TOP + ROW * (index + 0.5)


def _cut(text: str, letters: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= letters else f"{text[: letters - 1]}…"
