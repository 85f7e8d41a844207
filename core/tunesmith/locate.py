"""Which line of a TOML file a key stands on; tomli tells values, not places."""

from __future__ import annotations

import re

KeyPath = tuple[str | int, ...]

_TABLE = re.compile(r"^\s*(\[\[?)\s*(.+?)\s*\]\]?\s*(#.*)?$")
_PART = re.compile(r"""\s*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([A-Za-z0-9_-]+))\s*(\.|=|$)""")


def key_lines(text: str) -> dict[KeyPath, int]:
    """Line numbers, from 1, of every table header and key outside inline tables.

    Keys of inline tables are found at the line of the key that holds the table: callers ask for the
    longest known prefix (`line_of`).
    """
    lines: dict[KeyPath, int] = {}
    counts: dict[KeyPath, int] = {}
    prefix: KeyPath = ()
    closing: str | None = None  # the delimiter that ends a multi-line string
    depth = 0  # open brackets of a multi-line array
    for number, raw in enumerate(text.splitlines(), 1):
        if closing:
            if closing in raw:
                closing = None
            continue
        if depth > 0:
            depth += _depth(raw)
            continue
        table = _TABLE.match(raw)
        if table and "=" not in raw.split("#")[0].split("]")[0]:
            path = _indexed(_parts(table.group(2)), counts)
            if table.group(1) == "[[":
                index = counts.get(path, -1) + 1
                counts[path] = index
                lines.setdefault(path, number)
                path = (*path, index)
            prefix = path
            lines.setdefault(prefix, number)
            continue
        parts, rest = _key(raw)
        if not parts:
            continue
        for length in range(1, len(parts) + 1):
            lines.setdefault((*prefix, *parts[:length]), number)
        for quote in ('"""', "'''"):
            if rest.count(quote) == 1:
                closing = quote
        if closing is None:
            depth = max(0, _depth(rest))
    return lines


def line_of(lines: dict[KeyPath, int], path: KeyPath) -> int | None:
    """The line of `path`, or of the nearest table that holds it."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return None


def _parts(text: str) -> tuple[str, ...]:
    return _key(text + "=")[0]


def _key(text: str) -> tuple[tuple[str, ...], str]:
    """The dotted key that `text` begins with, and what follows its equals sign."""
    parts: list[str] = []
    position = 0
    while match := _PART.match(text, position):
        parts.append(next(group for group in match.groups()[:3] if group is not None))
        position = match.end()
        if match.group(4) == "=":
            return tuple(parts), text[position:]
        if match.group(4) == "":
            break
    return (), ""


def _indexed(parts: tuple[str, ...], counts: dict[KeyPath, int]) -> KeyPath:
    """A header's key path with the index of the newest entry after each array of tables but the last."""
    path: KeyPath = ()
    for position, part in enumerate(parts):
        path = (*path, part)
        if path in counts and position < len(parts) - 1:
            path = (*path, counts[path])
    return path


def _depth(text: str) -> int:
    """Brackets opened less brackets closed, outside strings and comments."""
    bare = re.sub(r'"(?:[^"\\]|\\.)*"' + r"|'[^']*'", "", text).split("#")[0]
    return bare.count("[") + bare.count("{") - bare.count("]") - bare.count("}")
