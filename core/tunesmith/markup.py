"""HTML that is escaped unless it was made here."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence
from typing import Any

# control characters, lone surrogates and non-characters, which a page cannot hold
_UNPRINTABLE = re.compile("[^\t\n\x20-\x7e\xa0-\ud7ff\ue000-\ufdcf\ufdf0-\ufffd\U00010000-\U0010ffff]")
_EMPTY = {"meta", "line", "polyline", "circle", "rect"}


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def escaped(value: Any) -> Html:
    """`value` as HTML: as it is when it is `Html`, escaped otherwise, attributes' quotes included."""
    return value if isinstance(value, Html) else Html(html.escape(_UNPRINTABLE.sub("\ufffd", str(value))))


def element(name: str, /, *children: Any, **attributes: Any) -> Html:
    """One element; `class_` and `aria_label` are written as `class` and `aria-label`, None leaves one out."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escaped(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _EMPTY and not children:
        return Html(f"<{name}{written}/>")
    return Html(f"<{name}{written}>{joined(children)}</{name}>")


def joined(children: Iterable[Any]) -> Html:
    """Several pieces one after the other."""
    return Html("".join(escaped(child) for child in children))


def table(heads: Sequence[str], rows: Sequence[Sequence[Any]], numeric: Sequence[str] = ()) -> Html:
    """A table, or nothing where there are no rows; the columns headed by `numeric` are flush right."""
    if not rows:
        return Html("")
    classes = ["number" if head in numeric else None for head in heads]

    def line(tag: str, cells: Sequence[Any]) -> Html:
        return element("tr", *(element(tag, cell, class_=c) for cell, c in zip(cells, classes, strict=True)))

    body = element("tbody", *(line("td", row) for row in rows))
    return element("div", element("table", element("thead", line("th", heads)), body), class_="wide")


def pairs(named: Iterable[tuple[str, Any]]) -> Html:
    """Names with their values, or nothing where there are none."""
    shown = [element("div", element("dt", name), element("dd", value)) for name, value in named]
    return element("dl", *shown) if shown else Html("")
