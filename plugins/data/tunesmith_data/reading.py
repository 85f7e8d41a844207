"""Rows as the settings want them read: names brought to ours, keys left out, and a count of what nothing reads.

reading = Reading(FORMATS["messages"], settings)
values = reading.row({"messages": [...], "id": 3})
reading.unused["id"]      # 1
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tunesmith import DataError
from tunesmith.errors import nearest
from tunesmith_data import calls, messages
from tunesmith_data.extras import REASONING
from tunesmith_data.formats import Format, convert
from tunesmith_data.labelled import named, split_lists
from tunesmith_data.parts import MEDIA, PART_KEYS, THINKING_TYPES, placeholder
from tunesmith_data.settings import RowSettings
from tunesmith_data.values import Unusable, filled, from_json

#: Columns that hold messages; those of the second row hold nothing else, so that text there is JSON.
MESSAGES = ("prompt", "completion", "chosen", "rejected", "answers", "messages", "conversations", "history")
ALWAYS_MESSAGES = ("messages", "conversations", "history")
#: What `ignore` may name beside keys.
PLACEHOLDERS = tuple(f"<{medium}>" for medium in MEDIA)

Change = Callable[[Mapping[str, Any]], dict[str, Any]]


class Reading:
    """Reads the rows of one set, and remembers what it met.

    Args:
        form: the rows' format.
        settings: how they shall be read.
    """

    def __init__(self, form: Format, settings: RowSettings) -> None:
        self.form = form
        self.settings = settings
        self.unused: Counter[str] = Counter()
        self.without_reasoning = 0
        self._met: dict[str, set[str]] = {"ignore": set(), "message_keys": set(), "roles": set()}
        self._seen: dict[str, set[str]] = {"message_keys": set(), "roles": set()}

    def row(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """A canonical row.

        Raises:
            Unusable: with the reason.
        """
        row = self._without_reasoning(self._named(self._without(values)))
        converted = convert(split_lists(row, self.settings.label_separator), self.form.name)[1]
        found = named(converted, self.form.type, self.settings.label_names)
        self._check(found)
        self.unused.update({key for key, value in _keys(row) if filled(value)} - self._used(row))
        return found

    def notes(self) -> tuple[str, ...]:
        """Sentences on what the settings left out."""
        if not self.without_reasoning:
            return ()
        return (f'the reasoning of {self.without_reasoning:,} rows is left out: `reasoning = "drop"`',)

    def check_settings(self, source: str) -> None:
        """Refuse names that no row has.

        Raises:
            DataError: with the nearest name.
        """
        for option, wanted in (
            ("ignore", self.settings.ignore),
            ("message_keys", tuple(self.settings.message_keys.values())),
            ("roles", tuple(self.settings.roles)),
        ):
            for name in wanted:
                if name not in self._met[option]:
                    found = sorted(self._seen.get(option, set()) or set(self.unused))
                    near = nearest(name, found)
                    raise DataError(
                        f"no row has {name!r}, which `{option}` names",
                        where=source,
                        details=[f"found: {', '.join(map(repr, found[:30]))}"] if found else [],
                        fix=f"Did you mean {near!r}?" if near else f"Take it out of `{option}`.",
                    )

    def _without(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """The row without the keys to ignore."""
        ignored = set(self.settings.ignore) - set(PLACEHOLDERS)
        if not ignored:
            return values

        def without(item: Mapping[str, Any]) -> dict[str, Any]:
            self._met["ignore"].update(ignored & item.keys())
            return {key: value for key, value in item.items() if key not in ignored}

        return _changed(without(values), without)

    def _named(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """The row with our names for the keys of messages and for roles."""
        keys = {theirs: ours for ours, theirs in self.settings.message_keys.items()}
        if not keys and not self.settings.roles:
            return values

        def renamed(item: Mapping[str, Any]) -> dict[str, Any]:
            self._seen["message_keys"].update(map(str, item))
            self._met["message_keys"].update(keys.keys() & item.keys())
            found = {
                key: value for key, value in item.items() if key not in keys.values() or not keys.keys() & item.keys()
            }
            found = {keys.get(key, key): value for key, value in found.items()}
            for key in messages.ROLE_KEYS:
                role = found.get(key)
                if isinstance(role, str):
                    self._seen["roles"].add(role)
                    self._met["roles"].update({role} & self.settings.roles.keys())
                    found[key] = self.settings.roles.get(role, role)
            return found

        return _changed(values, renamed)

    def _without_reasoning(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        if self.settings.reasoning == "keep" or not self.form.chat:
            return values
        met = []

        def without(item: Mapping[str, Any]) -> dict[str, Any]:
            found = dict(item)
            for key in messages.REASONING_KEYS:
                met.append(filled(found.pop(key, None)))
            for key in messages.CONTENT_KEYS:
                content = found.get(key)
                if isinstance(content, (list, tuple)):
                    found[key] = [part for part in content if not _thinks(part)]
                    met.append(len(found[key]) < len(content))
            return found

        row = {key: value for key, value in values.items() if key not in REASONING}
        met.append(any(filled(values.get(key)) for key in REASONING))
        found = _changed(row, without)
        self.without_reasoning += any(met)
        return found

    def _check(self, row: Mapping[str, Any]) -> None:
        first = row.get("messages", row.get("prompt"))
        if self.settings.greeting == "drop" and isinstance(first, list):
            turns = [message["role"] for message in first if message["role"] != "system"]
            if turns[:1] == ["assistant"]:
                raise Unusable("the conversation starts with the assistant")
        mark = placeholder(row) if self.form.chat else None
        if mark is None:
            return
        plain = f"<{mark.strip('<|>')}>"
        self._met["ignore"].add(plain)
        if plain not in self.settings.ignore:
            raise Unusable(
                f"{mark!r} in a text stands for what nothing installed here reads; "
                f'`ignore = ["{plain}"]` takes it as plain text'
            )

    def _used(self, row: Mapping[str, Any]) -> set[str]:
        return {*self.form.reads, *self.settings.keep, *([self.settings.group] if self.settings.group else ())}


def _keys(row: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The keys of a row, and those of its messages, their parts and calls that nothing reads, with their values."""
    for column, value in row.items():
        yield str(column), value
    for column in MESSAGES:
        for message in _messages(column, row.get(column)):
            for key, value in message.items():
                if key not in messages.READ or (key == "name" and not _of_tool(message)):
                    yield f"{column}[].{key}", value
            for content in (message.get(key) for key in messages.CONTENT_KEYS):
                if isinstance(content, (list, tuple)) and not _of_tool(message):
                    for part in content:
                        yield from _others(f"{column}[].content[]", part, PART_KEYS)
            for call in _listed(message.get("tool_calls")):
                yield from _others(f"{column}[].tool_calls[]", call, calls.CALL_KEYS)


def _others(place: str, item: Any, known: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    if isinstance(item, Mapping):
        yield from ((f"{place}.{key}", value) for key, value in item.items() if key not in known)


def _of_tool(message: Mapping[str, Any]) -> bool:
    role = next((message[key] for key in messages.ROLE_KEYS if filled(message.get(key))), "")
    return isinstance(role, str) and messages.ROLES.get(role.strip().lower()) == "tool"


def _thinks(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") in THINKING_TYPES


def _listed(value: Any) -> list[Any]:
    value = from_json(value)
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _messages(column: str, value: Any) -> Iterator[Mapping[str, Any]]:
    """The messages in a column, at any depth of lists."""
    if column in ALWAYS_MESSAGES:
        value = from_json(value)
    if isinstance(value, Mapping):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _messages("", item)


def _changed(row: Mapping[str, Any], change: Change) -> dict[str, Any]:
    """The row with every message changed."""

    def of(value: Any) -> Any:
        if isinstance(value, Mapping):
            return change(value)
        return [of(item) for item in value] if isinstance(value, (list, tuple)) else value

    found = dict(row)
    for column in MESSAGES:
        if column in found:
            found[column] = of(from_json(found[column]) if column in ALWAYS_MESSAGES else found[column])
    return found
