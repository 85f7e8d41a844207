"""Colour and plain tables where importing rich would cost too much."""

import os
import sys

from tunesmith.secrets import redact, redacted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: Control characters but newline and tab, and the marks that turn the reading order of what follows around.
STEERS = (*range(9), *range(11, 32), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
SHOWN = {code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" for code in STEERS}
SHOWN_JSON = {code: f"\\u{code:04x}" for code in STEERS}
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


def clean(text: str, secrets: "tuple[str, ...] | None" = None) -> str:
    """Text that cannot steer the terminal, and tells no secret: the characters of `STEERS` are shown escaped.

    Args:
        secrets: see `redact`.
    """
    text = redact(text, secrets)
    return text if text.isprintable() else text.translate(SHOWN)


def json_text(value: object) -> str:
    """Indented JSON that cannot steer the terminal; plain ASCII where stdout is not UTF."""
    import json

    wide = (sys.stdout.encoding or "").lower().startswith("utf")
    # JSON itself escapes the characters below 32 only
    return redact(json.dumps(redacted(value), indent=2, ensure_ascii=not wide, default=str)).translate(SHOWN_JSON)


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
