"""The step `normalise`: one way to write what looks the same."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator

from tunesmith import Context, Row
from tunesmith.steps import Prepare
from tunesmith_data.steps.settings import NormaliseSettings
from tunesmith_data.steps.texts import mapped, watched

# C0 and C1 without tab, line feed and carriage return; zero-width space, word joiner, byte-order mark; marks of the
# reading order. The joiners U+200C and U+200D stay: emoji and several scripts are written with them.
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\u200b\u2060\ufeff\u202a-\u202e\u2066-\u2069]")
SURROGATE = re.compile("[\ud800-\udfff]")
LINE_END = re.compile("\r\n?|[\x85\u2028\u2029]")
SPACE = re.compile("[\u00a0\u1680\u2000-\u200a\u202f\u205f\u3000]")
AT_LINE_END = re.compile(r"[ \t]+$", re.MULTILINE)


def normalise(settings: NormaliseSettings, context: Context) -> Prepare:
    """Bring text to one Unicode form, plain whitespace, and no control characters."""
    changes = dict(_changes(settings))

    def prepare(rows: Iterable[Row]) -> Iterator[Row]:
        for row in watched(rows, settings.columns, "normalise"):
            why = []
            values = row.values
            for reason, function in changes.items():
                changed = mapped(values, settings.columns, function)
                if changed != values:
                    why.append(reason)
                    values = changed
            yield row.change(values, *why) if why else row

    return prepare


def _changes(settings: NormaliseSettings) -> Iterator[tuple[str, Callable[[str], str]]]:
    if settings.control == "remove":
        yield "lone surrogates", lambda text: SURROGATE.sub("\ufffd", text)
        yield "control characters", lambda text: CONTROL.sub("", text)
    if settings.unicode != "keep":
        form = settings.unicode
        yield f"Unicode {form}", lambda text: unicodedata.normalize(form, text)
    if settings.whitespace == "tidy":
        yield "whitespace", _tidy
    elif settings.whitespace == "collapse":
        yield "whitespace", lambda text: " ".join(text.split())


def _tidy(text: str) -> str:
    return AT_LINE_END.sub("", SPACE.sub(" ", LINE_END.sub("\n", text))).strip(" \t\n")
