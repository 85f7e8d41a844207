"""Which line of a TOML file a key stands on; tomli tells values, not places.

The text has been read by tomli before, so it is valid: the scanner only has to know where keys, strings and
brackets begin and end, which is all that this file does.
"""

from __future__ import annotations

import re
from bisect import bisect_left

KeyPath = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}|' + r"'''.*?'{3,5}|" + r'"(?:[^"\\\n]|\\.)*"|' + r"'[^'\n]*'",
    re.DOTALL,
)
_BARE_KEY = re.compile(r"[^\s.=\[\]{},#\"']+")
_SCALAR = re.compile(r"[^,\]}#\r\n]+")


def key_lines(text: str) -> dict[KeyPath, int]:
    """Line numbers, from 1, of every table header and every key, those in inline tables included."""
    return _Scanner(text).document()


def line_of(lines: dict[KeyPath, int], path: KeyPath) -> int | None:
    """The line of `path`, or of the nearest table that holds it."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return None


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self._ends = [found.start() for found in re.finditer("\n", text)]
        self.lines: dict[KeyPath, int] = {}
        self.counts: dict[KeyPath, int] = {}  # arrays of tables: index of the newest entry

    def document(self) -> dict[KeyPath, int]:
        prefix: KeyPath = ()
        self._skip_blank()
        while self.position < len(self.text):
            if self._at("["):
                prefix = self._header()
            else:
                self._pair(prefix)
            self._skip_blank()
        return self.lines

    def _header(self) -> KeyPath:
        """`[a.b]` or `[[a.b]]`: the key path that the keys below it begin with."""
        line = self._line()
        brackets = 2 if self.text.startswith("[[", self.position) else 1
        self.position += brackets
        path: KeyPath = ()
        parts = self._key()
        for depth, part in enumerate(parts, 1):
            path = (*path, part)
            self.lines.setdefault(path, line)
            if depth == len(parts) and brackets == 2:
                self.counts[path] = self.counts.get(path, -1) + 1
            if path in self.counts:
                path = (*path, self.counts[path])
                self.lines.setdefault(path, line)
        self._skip_blank()
        self.position += brackets
        return path

    def _pair(self, prefix: KeyPath) -> None:
        """`a.b = value` below `prefix`."""
        line = self._line()
        parts = self._key()
        for length in range(1, len(parts) + 1):
            self.lines.setdefault((*prefix, *parts[:length]), line)
        self.position += 1  # the equals sign
        self._value((*prefix, *parts))

    def _value(self, path: KeyPath) -> None:
        self._skip_blank()
        if self._at("["):
            self.position += 1
            index = 0
            while self._more("]"):
                self.lines.setdefault((*path, index), self._line())
                self._value((*path, index))
                index += 1
        elif self._at("{"):
            self.position += 1
            while self._more("}"):
                self._pair(path)
        else:
            pattern = _STRING if self.text[self.position] in "\"'" else _SCALAR
            self.position = _end(pattern, self.text, self.position)

    def _more(self, closing: str) -> bool:
        """Whether another entry follows in an array or an inline table; passes commas and the closing bracket."""
        self._skip_blank()
        if self._at(","):
            self.position += 1
            self._skip_blank()
        if self._at(closing):
            self.position += 1
            return False
        return True

    def _key(self) -> tuple[str, ...]:
        """A dotted key; the position is at what follows it."""
        parts: list[str] = []
        while True:
            self._skip_blank()
            if self.text[self.position] in "\"'":
                end = _end(_STRING, self.text, self.position)
                parts.append(_unquoted(self.text[self.position : end]))
            else:
                end = _end(_BARE_KEY, self.text, self.position)
                parts.append(self.text[self.position : end])
            self.position = end
            self._skip_blank()
            if not self._at("."):
                return tuple(parts)
            self.position += 1

    def _at(self, mark: str) -> bool:
        return self.text.startswith(mark, self.position)

    def _skip_blank(self) -> None:
        self.position = _end(_BLANK, self.text, self.position)

    def _line(self) -> int:
        return bisect_left(self._ends, self.position) + 1


def _end(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    assert match is not None, f"not TOML at {position}"
    return match.end()


def _unquoted(key: str) -> str:
    """The name that a quoted key means."""
    if key.startswith("'") or "\\" not in key:
        return key[1:-1]
    import tomli

    return next(iter(tomli.loads(f"{key} = 0")))
