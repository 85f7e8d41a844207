"""Tools: those that a row declares, and the calls of them, in the form that chat templates take.

declared('[{"name": "add", "parameters": {}}]')    # [{"type": "function", "function": {"name": "add", ...}}]
calls([{"function": {"name": "add", "arguments": '{"a": 1}'}}])
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tunesmith_data.raw import kind
from tunesmith_data.values import Unusable, clean, filled, from_json, plain

#: Columns that declare the tools of a row.
TOOLS = ("tools", "functions")
#: Keys of a call's arguments.
ARGUMENTS = ("arguments", "parameters")
#: Keys of a call, and of the function in it, that are read.
CALL_KEYS = ("id", "type", "function", "name", *ARGUMENTS)

Call = dict[str, Any]


def declared(value: Any, column: str) -> list[dict[str, Any]]:
    """The tools of a row as chat templates take them; a list, one tool, or either as JSON text.

    Raises:
        Unusable: a tool is none.
    """
    value = from_json(value)
    items = [value] if isinstance(value, Mapping) else value
    if not isinstance(items, (list, tuple)):
        raise Unusable(f"{column!r} is {kind(value)}, not a list of tools or JSON of one")
    return [_tool(from_json(item), column) for item in items]


def _tool(item: Any, column: str) -> dict[str, Any]:
    if not isinstance(item, Mapping):
        raise Unusable(f"a tool in {column!r} is {kind(item)}, not an object")
    function = item.get("function", item)
    if not isinstance(function, Mapping):
        raise Unusable(f"a tool in {column!r} has a function that is {kind(function)}, not an object")
    if "name" not in function:
        raise Unusable(f"a tool in {column!r} has no name")
    clean(function["name"], f"the name of a tool in {column!r}")
    if item.get("type", "function") not in ("function", None) and "function" in item:
        raise Unusable(f"a tool in {column!r} is of another type than 'function'")
    whole = dict(item) if "function" in item else {"type": "function", "function": dict(item)}
    return plain({"type": "function", **whole}, f"a tool in {column!r}")


def calls(value: Any) -> list[Call]:
    """The calls of a message, each with its name and its arguments as an object.

    Raises:
        Unusable: a call is none, or its arguments are no object.
    """
    value = from_json(value)
    items = [value] if isinstance(value, Mapping) else value
    if not isinstance(items, (list, tuple)):
        raise Unusable(f"the tool calls of a message are {kind(value)}, not a list")
    return [_call(from_json(item)) for item in items]


def _call(item: Any) -> Call:
    if not isinstance(item, Mapping):
        raise Unusable(f"a tool call is {kind(item)}, not an object with a name and arguments")
    function = item["function"] if filled(item.get("function")) else item
    if not isinstance(function, Mapping):
        raise Unusable(f"the function of a tool call is {kind(function)}, not an object")
    if not filled(function.get("name")):
        raise Unusable("a tool call has no name")
    found: Call = {
        "type": "function",
        "function": {"name": clean(function["name"], "the name of a tool call"), "arguments": _arguments(function)},
    }
    if filled(item.get("id")):
        found["id"] = clean(item["id"], "the id of a tool call")
    return found


def _arguments(function: Mapping[str, Any]) -> dict[str, Any]:
    value: Any = next((function[name] for name in ARGUMENTS if filled(function.get(name))), {})
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip() else {}
        except (ValueError, RecursionError):
            raise Unusable("the arguments of a tool call are text that is not JSON") from None
    if not isinstance(value, Mapping):
        raise Unusable(f"the arguments of a tool call are {kind(value)}, not an object")
    return plain(dict(value), "the arguments of a tool call")
