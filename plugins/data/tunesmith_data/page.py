"""The tables of docs/reference/data-formats.md, made of what the formats declare.

    python -m tunesmith_data.page docs/reference/data-formats.md    # writes the tables anew

Each table stands between `<!-- table NAME -->` and `<!-- end -->`; what stands around them is written by hand.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from itertools import groupby
from pathlib import Path

from tunesmith_data import calls, extras, messages, parts, turns
from tunesmith_data.formats import FORMATS

TABLE = re.compile(r"(?P<begin><!-- table (?P<name>[a-z-]+) -->\n)(?P<body>.*?)(?P<end><!-- end -->)", re.DOTALL)


def tables() -> dict[str, str]:
    """Every table by its name: one of each format, and those that all formats share."""
    found = {name: _table("column", form.own) for name, form in FORMATS.items()}
    found["formats"] = _formats()
    found["conversation"] = _table("column", extras.READ)
    found["row"] = _table("column", extras.WEIGHTS)
    found["refused-columns"] = _table("column", extras.UNREADABLE, "refused")
    found["refused-conversation"] = _table(
        "column", {name: why for name, why in extras.REFUSED.items() if name not in extras.UNREADABLE}, "refused"
    )
    found["turns"] = _table("key of a turn", turns.KEYS)
    found["message"] = _table("key of a message", messages.READ)
    found["refused-message"] = _table("key of a message", messages.REFUSED, "refused")
    found["part"] = _parts()
    found["call"] = _lines(("key of a call",), ((_code(calls.CALL_KEYS),),))
    found["roles"] = _table("in the file", messages.ROLES, "role")
    return found


def written(page: str) -> str:
    """The page with its tables as they must be.

    Raises:
        KeyError: it has a table that nothing here makes.
    """
    made = tables()
    return TABLE.sub(lambda match: f"{match['begin']}{made[match['name']]}{match['end']}", page)


def _formats() -> str:
    rows = (
        (f"`{name}`", ", ".join(_either(column) for column in form.columns), form.title, f"`{form.type}`")
        for name, form in FORMATS.items()
    )
    return _lines(("`format`", "recognised by", "what it is", "record type"), rows)


def _parts() -> str:
    rows = (
        (_code(parts.TEXT_TYPES), f"text, under {_code(parts.TEXT_KEYS)}"),
        (_code(parts.THINKING_TYPES), f"reasoning, under {_code(parts.THINKING_KEYS)}"),
        ("any other", "its row is refused"),
    )
    return _lines(("`type` of a part", "what becomes of it"), rows)


def _table(heading: str, keys: Mapping[str, str], says: str = "what becomes of it") -> str:
    """A line for each sentence, with the keys that it holds for, in their order."""
    grouped = groupby(keys.items(), key=lambda item: item[1])
    return _lines((heading, says), ((_code(name for name, _ in items), why) for why, items in grouped))


def _lines(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heads = list(headings)
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _either(column: str) -> str:
    return " or ".join(f"`{name}`" for name in column.split("|"))


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    file = Path(sys.argv[1])
    file.write_text(written(file.read_text(encoding="utf-8")), encoding="utf-8")
