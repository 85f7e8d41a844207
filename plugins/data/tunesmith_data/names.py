"""Names as the settings have them: columns, keys of messages and roles brought to ours, and keys left out.

    names = Names(settings)
    names.row({"talk": [{"speaker": "customer", "said": "Hello"}]})    # {"messages": [{"role": "user", ...}]}

Steps of `[data]` see rows with these names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from tunesmith import DataError
from tunesmith.errors import nearest
from tunesmith_data import messages
from tunesmith_data.calls import TOOLS
from tunesmith_data.extras import KWARGS, REASONING
from tunesmith_data.parts import MEDIA, THINKING_TYPES
from tunesmith_data.settings import RowSettings
from tunesmith_data.turns import turned
from tunesmith_data.values import filled, from_json

#: Columns of which the objects are no messages.
OTHER_OBJECTS = (*TOOLS, KWARGS)
#: Columns that hold messages and nothing else, so that text there is JSON.
ALWAYS_MESSAGES = ("messages", "conversations", "conversation", "history", "chosen_messages", "rejected_messages")
#: What `ignore` may name beside keys.
PLACEHOLDERS = tuple(f"<{medium}>" for medium in MEDIA)

Change = Callable[[Mapping[str, Any]], dict[str, Any]]


class Names:
    """Renames and leaves out, row by row, and remembers what it met.

    Args:
        settings: of the loader.
    """

    def __init__(self, settings: RowSettings) -> None:
        self.settings = settings
        self.replaced: Counter[str] = Counter()  # columns of the file whose name another one takes
        self.without_reasoning = 0
        self._keys = {theirs: ours for ours, theirs in settings.message_keys.items()}
        self._ignored = {key for key in settings.ignore if key not in PLACEHOLDERS}
        self._met: dict[str, set[str]] = {"ignore": set(), "message_keys": set(), "roles": set()}
        self._found: dict[str, dict[str, None]] = {"ignore": {}, "message_keys": {}, "roles": {}}

    def row(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """The row with our names."""
        row = self._columns(values)
        if self._ignored:
            row = self._changed(self._without(row), self._without)
        if self._keys or self.settings.roles:
            row = self._changed(row, self._named)
        return self._without_reasoning(row) if self.settings.reasoning == "drop" else row

    def met(self, placeholder: str) -> bool:
        """Whether a mark such as "<image>" shall be plain text; that a text has one is remembered."""
        self._met["ignore"].add(placeholder)
        return placeholder in self.settings.ignore

    def notes(self) -> tuple[str, ...]:
        """Sentences on what the settings left out."""
        if self.settings.reasoning == "keep":
            return ()
        return (f'the reasoning of {self.without_reasoning:,} rows is left out: `reasoning = "drop"`',)

    def check(self, source: str) -> None:
        """Refuse names that no row has.

        Raises:
            DataError: with the nearest name.
        """
        wanted = {
            "ignore": self.settings.ignore,
            "message_keys": tuple(self._keys),
            "roles": tuple(self.settings.roles),
        }
        for option, names in wanted.items():
            for name in names:
                if name not in self._met[option]:
                    found = list(self._found[option])
                    near = nearest(name, found)
                    raise DataError(
                        f"no row has {name!r}, which `{option}` names",
                        where=source,
                        details=[f"found: {', '.join(map(repr, found[:30]))}"] if found else [],
                        fix=f"Did you mean {near!r}?" if near else f"Take it out of `{option}`.",
                    )

    def _columns(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        columns = self.settings.columns
        if not columns:
            return row
        taken = set(columns.values())
        renamed = {column: value for column, value in row.items() if column not in taken}
        for canonical, name in columns.items():
            if name in row:
                if filled(renamed.get(canonical)):
                    self.replaced[f"{canonical} (the file's own: `columns` takes {name} for it)"] += 1
                renamed[canonical] = row[name]
        return renamed

    def _without(self, item: Mapping[str, Any]) -> dict[str, Any]:
        self._found["ignore"].update(dict.fromkeys(map(str, item)))
        self._met["ignore"].update(self._ignored & item.keys())
        return {key: value for key, value in item.items() if key not in self._ignored}

    def _named(self, item: Mapping[str, Any]) -> dict[str, Any]:
        self._found["message_keys"].update(dict.fromkeys(map(str, item)))
        mapped = {self._keys[key]: value for key, value in item.items() if key in self._keys}
        self._met["message_keys"].update(self._keys.keys() & item.keys())
        found = {key: value for key, value in item.items() if key not in self._keys and key not in mapped} | mapped
        for key in messages.ROLE_KEYS:
            role = found.get(key)
            if isinstance(role, str):
                self._found["roles"][role] = None
                self._met["roles"].update({role} & self.settings.roles.keys())
                found[key] = self.settings.roles.get(role, role)
        return found

    def _without_reasoning(self, row: Mapping[str, Any]) -> dict[str, Any]:
        met = [filled(row.get(key)) for key in REASONING]

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

        found = self._changed({key: value for key, value in row.items() if key not in REASONING}, without)
        self.without_reasoning += any(met)
        return found

    def _changed(self, row: Mapping[str, Any], change: Change) -> dict[str, Any]:
        """The row with every message changed."""

        def of(value: Any) -> Any:
            if isinstance(value, Mapping):
                return change(value)
            return [of(item) for item in value] if isinstance(value, (list, tuple)) else value

        kept = (*OTHER_OBJECTS, *self.settings.keep)
        return {
            column: value if column in kept else of(from_json(value) if column in ALWAYS_MESSAGES else value)
            for column, value in row.items()
        }


def messages_in(column: str, value: Any) -> Iterator[Mapping[str, Any]]:
    """The messages in a column, at any depth of lists."""
    if column in ALWAYS_MESSAGES:
        value = from_json(value)
    value = turned(value)
    if isinstance(value, Mapping):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            if isinstance(item, dict):
                yield item
            else:
                yield from messages_in("", item)


def _thinks(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") in THINKING_TYPES


#: How files call what is asked and what is answered, the likelier first.
ASKED = ("question", "query", "instruction", "problem", "input", "source", "q")
ANSWERED = ("answer", "response", "output", "solution", "answers", "target", "summary", "a")


def likely(present: Sequence[str]) -> str:
    """The setting `columns` as these columns would need it, as far as their names tell; else an example."""
    asked = next((name for name in ASKED if name in present), "question")
    answered = next((name for name in ANSWERED if name in present), "answer")
    return f'columns = {{prompt = "{asked}", completion = "{answered}"}}'
