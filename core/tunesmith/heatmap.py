"""A matrix of counts as inline SVG: each row shaded by its shares, so that rare labels are seen as well."""

from __future__ import annotations

from collections.abc import Sequence

from tunesmith.markup import Html, element, joined

CELL = 12  # units of the SVG's own coordinates
LETTER = 6.2  # mean width of a letter in them
LONGEST = 32  # letters of a name that are drawn; all of it is in the tooltip
FIGURES_TO = 20  # rows up to which the counts are written into the cells


def heatmap(
    title: str, x: str, y: str, columns: Sequence[str], rows: Sequence[str], values: Sequence[Sequence[int]]
) -> Html:
    """One matrix; empty when nothing is counted in it.

    Args:
        x, y: what its columns and its rows are.
    """
    total = sum(map(sum, values))
    if not total:
        return Html("")
    with_figures = len(rows) <= FIGURES_TO
    size = 2.5 * CELL if with_figures else CELL
    left, above = _width(rows), _width(columns)
    drawn = [
        element("text", _short(name), x=f"{left - 4:.0f}", y=f"{above + (place + 0.5) * size:.1f}", class_="row")
        for place, name in enumerate(rows)
    ]
    for place, name in enumerate(columns):
        across, down = left + (place + 0.5) * size, above - 4
        turned = f"rotate(-90 {across:.1f} {down:.1f})"
        drawn.append(
            element("text", _short(name), x=f"{across:.1f}", y=f"{down:.1f}", transform=turned, class_="column")
        )
    for row, counts in enumerate(values):
        of = sum(counts)
        for column, count in enumerate(counts):
            if not count:
                continue
            told = element("title", f"{y} {rows[row]}, {x} {columns[column]}: {count:,} of {of:,}")
            across, down = left + column * size, above + row * size
            square = element(
                "rect",
                told,
                x=f"{across:.1f}",
                y=f"{down:.1f}",
                width=f"{size - 1:.1f}",
                height=f"{size - 1:.1f}",
                class_="right" if rows[row] == columns[column] else "wrong",
                fill_opacity=f"{0.15 + 0.85 * count / of:.2f}",
            )
            drawn.append(square)
            if with_figures:
                middle = {"x": f"{across + size / 2:.1f}", "y": f"{down + size / 2:.1f}"}
                drawn.append(element("text", f"{count:,}", class_="figure", **middle))
    width, height = left + len(columns) * size, above + len(rows) * size
    wrong = sum(
        count
        for name, counts in zip(rows, values, strict=True)
        for other, count in zip(columns, counts, strict=True)
        if name != other
    )
    said = f"{title}: {total - wrong:,} of {total:,} on the diagonal"
    drawing = element(
        "svg",
        joined(drawn),
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        role="img",
        aria_label=said,
        style=f"width:{width / 16:.1f}rem",
    )
    caption = element(
        "figcaption",
        element("b", title),
        f" · {total - wrong:,} of {total:,} on the diagonal · rows: {y}, columns: {x}",
    )
    return element("figure", caption, element("div", drawing, class_="wide"), class_="matrix")


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"


def _width(names: Sequence[str]) -> float:
    return max(len(_short(name)) for name in names) * LETTER + 8
