"""What other tools call a setting: the advice for a key that nobody here reads."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import tomli

from tunesmith.errors import nearest


@cache
def words() -> dict[str, tuple[str, str]]:
    """By a word of other tools, the setting `TABLE.KEY` that does it here, or nothing, and what is to be said of it."""
    text = Path(__file__).with_name("words.toml").read_text(encoding="utf-8")
    found = tomli.loads(text)
    return {word: (told, "") if isinstance(told, str) else (told[0], told[1]) for word, told in found.items()}


def advice(key: str, allowed: Sequence[str], table: Sequence[str | int] = (), otherwise: str = "") -> str:
    """What to do about an unknown key: the setting of ours that it means, the nearest name, or `otherwise`.

    Args:
        key: as it is written.
        allowed: the keys that are known in its place.
        table: where it is written: `("trainer",)`.
    """
    setting, note = words().get(key, words().get(key.replace("-", "_"), ("", "")))
    place, _, name = setting.partition(".")
    if setting and place in table and name in (*allowed, "use"):
        return f"It is called {name!r} here{_noted(note)}."
    near = nearest(key, allowed)
    if setting and place not in table and not (near and _slip(key, near)):
        shown = f"[[{place}]]" if place == "evaluate" else f"[{place}]"
        return f"It is {name!r} in {shown} here{_noted(note)}."
    if note and not setting:
        return note
    return f"Did you mean {near!r}?" if near else otherwise


def _noted(note: str) -> str:
    return f" ({note})" if note else ""


def _slip(key: str, near: str) -> bool:
    """Whether a key differs from a known one by a letter or two, so that it is a slip and no other tool's word."""
    return abs(len(key) - len(near)) <= 1 and key[:3] == near[:3] and key[-3:] == near[-3:]
