"""Colour and plain tables where importing rich would cost too much."""

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CODES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


def colour(stream: str) -> bool:
    """Whether `stream` ("stdout" or "stderr") is a terminal that wants colour."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return bool(os.environ.get("FORCE_COLOR")) or getattr(sys, stream).isatty()


def painter(stream: str) -> "Callable[[str, str], str]":
    """A function `(text, style)` that colours text for `stream`, or leaves it as it is."""
    if not colour(stream):
        return lambda text, style: text
    return lambda text, style: f"\x1b[{CODES[style]}m{text}\x1b[0m"


def clean(text: str) -> str:
    """Text that cannot steer the terminal: control characters but newline and tab are shown escaped."""
    if text.isprintable():
        return text
    return "".join(c if c in "\n\t" or not (ord(c) < 32 or 0x7F <= ord(c) < 0xA0) else f"\\x{ord(c):02x}" for c in text)


def width(stream: str = "stdout") -> int | None:
    """Columns of the terminal behind `stream`; None where there is none and lines may be long."""
    if os.environ.get("COLUMNS", "").isdigit():
        return int(os.environ["COLUMNS"])
    try:
        return os.get_terminal_size(getattr(sys, stream).fileno()).columns
    except (OSError, ValueError, AttributeError):
        return None


def table(heads: "Sequence[str]", rows: "Sequence[Sequence[str]]", *, style: "Callable[[int, str], str | None]") -> str:
    """Columns of text, the last one cut to fit the terminal.

    Args:
        style: `(column, text)` to a colour's name, or None.
    """
    paint = painter("stdout")
    widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
    room = width()
    if room:
        widths[-1] = max(10, min(widths[-1], room - sum(widths[:-1]) - 2 * (len(heads) - 1)))
    lines = ["  ".join(paint(head.ljust(w), "bold") for head, w in zip(heads, widths, strict=True)).rstrip()]
    for row in rows:
        cells = []
        for column, (text, size) in enumerate(zip(row, widths, strict=True)):
            shown = text if len(text) <= size else text[: size - 1] + "…"
            chosen = style(column, text)
            padded = shown if column == len(row) - 1 else shown.ljust(size)
            cells.append(paint(padded, chosen) if chosen else padded)
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines) + "\n"
