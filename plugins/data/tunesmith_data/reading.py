"""Rows of a format made canonical, with a count of the keys that nothing reads.

    reading = Reading(FORMATS["messages"], settings, Names(settings))
    values = reading.row({"messages": [...], "id": 3})
    reading.unused()      # {"id": 1}

Rows have passed `Names` before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Mapping
from typing import Any

from tunesmith_data import calls, messages
from tunesmith_data.formats import Format, convert
from tunesmith_data.labelled import named, split_lists
from tunesmith_data.names import OTHER_OBJECTS, Names, messages_in
from tunesmith_data.parts import PART_KEYS, placeholder
from tunesmith_data.settings import RowSettings
from tunesmith_data.values import Unusable, filled, from_json

#: The keys of most messages.
PLAIN = {"role", "content"}


class Reading:
    """Reads the rows of one set, and remembers what nothing reads.

    Args:
        form: the rows' format.
        settings: how they shall be read.
        names: has given the rows our names.
    """

    def __init__(self, form: Format, settings: RowSettings, names: Names) -> None:
        self.form = form
        self.settings = settings
        self.names = names
        self._unused: Counter[str] = Counter()
        self._used = {*form.reads, *settings.keep, *([settings.group] if settings.group else ())}
        self._walked = [column for column in form.own if column not in OTHER_OBJECTS] + ["history"]

    def row(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """A canonical row.

        Raises:
            Unusable: with the reason.
        """
        separated = split_lists(values, self.settings.label_separator)
        converted = convert(separated, self.form.name, chosen=self.settings.format != "auto")[1]
        found = named(converted, self.form.type, self.settings.label_names)
        self._check(found)
        for key in {key for key, value in self._unread(values) if filled(value)}:
            self._unused[key] += 1
        return found

    def unused(self) -> dict[str, int]:
        """How many of the rows that were read have each key that nothing reads."""
        return dict((self._unused + self.names.replaced).most_common())

    def _check(self, row: Mapping[str, Any]) -> None:
        if not self.form.chat:
            return
        first = row.get("messages", row.get("prompt"))
        if self.settings.greeting == "drop" and isinstance(first, list):
            turns = [message["role"] for message in first if message["role"] != "system"]
            if turns[:1] == ["assistant"]:
                raise Unusable("the conversation starts with the assistant")
        mark = placeholder(row)
        if mark is not None and not self.names.met(plain := f"<{mark.strip('<|>')}>"):
            raise Unusable(
                f"{mark!r} in a text stands for what nothing installed here reads; "
                f'`ignore = ["{plain}"]` takes it as plain text'
            )

    def _unread(self, row: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
        """The columns of a row, and the keys of its messages, of their parts and calls, that nothing reads."""
        yield from _others("", row, self._used)
        if not self.form.chat:
            return
        for column in self._walked:
            for message in messages_in(column, row.get(column)):
                yield from _of_message(column, message)


def _of_message(column: str, message: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    if message.keys() == PLAIN and isinstance(message["content"], str):
        return
    tool = _of_tool(message)
    yield from _others(f"{column}[].", message, messages.READ if tool else messages.READ.keys() - {"name"})
    for key in messages.CONTENT_KEYS:
        content = message.get(key)
        if isinstance(content, (list, tuple)) and not tool:
            for part in content:
                yield from _others(f"{column}[].{key}[].", part, PART_KEYS)
    made = from_json(message.get("tool_calls"))
    for call in made if isinstance(made, (list, tuple)) else (made,):
        yield from _others(f"{column}[].tool_calls[].", from_json(call), calls.CALL_KEYS)


def _others(place: str, item: Any, known: Container[str]) -> Iterator[tuple[str, Any]]:
    if isinstance(item, Mapping):
        yield from ((f"{place}{key}", value) for key, value in item.items() if key not in known)


def _of_tool(message: Mapping[str, Any]) -> bool:
    role = next((message[key] for key in messages.ROLE_KEYS if filled(message.get(key))), "")
    return isinstance(role, str) and messages.ROLES.get(role.strip().lower()) == "tool"
