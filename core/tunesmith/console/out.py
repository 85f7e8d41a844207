"""Output: data to stdout, talk to stderr, and JSON that any reader takes."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from tunesmith.console.paint import clean, json_text, painter
from tunesmith.console.streams import Undelivered


def data_console() -> Console:
    """For what a command was asked for."""
    return Console(file=sys.stdout, highlight=False, markup=False, emoji=False)


def safe(text: Any, style: str = "") -> Text:
    """Text of unknown origin: neither markup nor control codes take effect."""
    return Text(clean(str(text)), style=style)


def print_json(value: Any) -> None:
    """Print JSON to stdout; numbers that JSON cannot hold (NaN, infinity) become null."""
    print(json_text(finite(value)))


def finite(value: Any) -> Any:
    """The same data with null for every NaN and infinity."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): finite(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return [finite(item) for item in value]
    return value


@contextmanager
def kept_in(place: Path) -> Iterator[None]:
    """Print results that are kept in a folder as well: that they cannot be printed changes nothing of what they are."""
    try:
        yield
        sys.stdout.flush()
    except Undelivered as error:
        note(f"{error.what}; the results are in {place}")


def note(message: str) -> None:
    """A line of talk."""
    print(clean(message), file=sys.stderr, flush=True)


def next_steps(*commands: str) -> None:
    """Name the commands that come next."""
    paint = painter("stderr")
    for number, command in enumerate(commands):
        print(f"{paint('next:', 'dim') if not number else '     '} {clean(command)}", file=sys.stderr, flush=True)


def number(value: float | None, digits: int = 4) -> str:
    """A figure for a person: four significant digits, thousands as they are."""
    if value is None:
        return ""
    if not math.isfinite(value):
        return str(value)
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value)}"
    return f"{value:.{digits}g}" if abs(value) < 10 ** (digits - 1) else f"{value:.0f}"


def seconds(value: float) -> str:
    """A duration: 0.3 s, 12 s, 3:07, 1:02:03."""
    if value < 10:
        return f"{value:.1f} s"
    if value < 60:
        return f"{value:.0f} s"
    whole = round(value)
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


def size(count: float) -> str:
    """Bytes for a person."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit in ("B", "KB", "MB") else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
