"""Settings described: each field's type, default and meaning, and the JSON Schema of a whole recipe."""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from dataclasses import MISSING, dataclass, fields
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from tunesmith.comparison.settings import CHANGEABLE, CompareSettings
from tunesmith.recipe import STAGE_KEYS, RunSettings
from tunesmith.registry import Entry, Registry
from tunesmith.search.settings import SearchSettings
from tunesmith.spec import Evaluator, Loader, Settings

DIALECT = "https://json-schema.org/draft/2020-12/schema"
#: table of a recipe -> kind of component that it names
TABLES = {"data": "loader", "quantizer": "quantizer", "adapter": "adapter", "trainer": "trainer"}
LISTS = {"evaluate": "evaluator", "export": "exporter"}
#: every key whose value names components -> their kind
KEYS = {
    **TABLES,
    **LISTS,
    "steps": "step",
    "launcher": "launcher",
    "preset": "preset",
    "model": "model",
    "search": "searcher",
}

Schema = dict[str, Any]


# --- one settings class -----------------------------------------------------------------------
@dataclass(frozen=True)
class Field:
    """One setting as a person reads it."""

    name: str
    type: str
    required: bool
    default: Any
    doc: str


def describe_settings(kind: type[Settings]) -> list[Field]:
    """Every field of a settings class, those of its bases first."""
    docs = field_docs(kind)
    hints = get_type_hints(kind, include_extras=True)
    found = []
    for item in fields(kind):
        default = item.default_factory() if item.default_factory is not MISSING else item.default
        required = default is MISSING
        shown = None if required else default
        found.append(Field(item.name, type_name(hints[item.name]), required, shown, docs.get(item.name, "")))
    return found


def field_docs(kind: type) -> dict[str, str]:
    """The docstrings under the fields of a class and its bases, read from their source.

    A class whose source cannot be read (made in an interpreter) has none.
    """
    docs: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if base is object:
            continue
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0]
        except (OSError, TypeError, SyntaxError):
            continue
        previous: ast.stmt | None = None
        for statement in getattr(body, "body", []):
            text = getattr(getattr(statement, "value", None), "value", None)
            if (
                isinstance(statement, ast.Expr)
                and isinstance(text, str)
                and isinstance(previous, ast.AnnAssign)
                and isinstance(previous.target, ast.Name)
            ):
                docs[previous.target.id] = " ".join(inspect.cleandoc(text).split())
            previous = statement
    return docs


def type_name(hint: Any) -> str:
    """A type as a person reads it: `int > 0`, `"a" | "b"`, `list of str`."""
    origin = get_origin(hint)
    if origin is Annotated:
        base, *limits = get_args(hint)
        return " ".join([type_name(base), *(text for limit in limits for text in _limit(limit))])
    if origin is Literal:
        return " | ".join(json.dumps(value) for value in get_args(hint))
    if origin is Union or type(hint).__name__ == "UnionType":
        return " | ".join("none" if part is type(None) else type_name(part) for part in get_args(hint))
    if origin in (list, tuple, set, frozenset) or (origin and getattr(origin, "__name__", "") == "Sequence"):
        parts = [part for part in get_args(hint) if part is not Ellipsis]
        return f"list of {type_name(parts[0])}" if parts else "list"
    if origin is dict or getattr(origin, "__name__", "") == "Mapping":
        return "table"
    names = {"str": "text", "Path": "path", "bool": "true | false", "dict": "table", "Mapping": "table"}
    name = getattr(hint, "__name__", str(hint))
    return names.get(name, name)


def _limit(limit: Any) -> list[str]:
    signs = (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<="))
    shown = [f"{sign} {getattr(limit, key)}" for key, sign in signs if getattr(limit, key, None) is not None]
    low, high = getattr(limit, "min_length", None), getattr(limit, "max_length", None)
    if low and low == high:
        shown.append(f"(length {low})")
    elif low:
        shown.append("(not empty)" if low == 1 else f"(length >= {low})")
    elif high:
        shown.append(f"(length <= {high})")
    return shown


# --- a whole recipe ---------------------------------------------------------------------------
def recipe_schema(registry: Registry) -> Schema:
    """The JSON Schema of a recipe for the plugins of a registry.

    With `preset`, a table may leave out `use` and what is required, since the preset gives them.
    """
    definitions: Schema = {}
    tables: Schema = {}
    for key, kind in KEYS.items():
        entries = registry.entries(kind)
        alternatives = [_component(entry, entries, definitions) for entry in entries]
        definitions[f"{key}.strict"] = {"anyOf": [strict for strict, _ in alternatives] or [False]}
        definitions[f"{key}.open"] = {"anyOf": [relaxed for _, relaxed in alternatives] or [False]}
    for strictness in ("strict", "open"):
        definitions[f"role.{strictness}"] = _role(strictness)
    for strictness in ("strict", "open"):
        tables[strictness] = _stage(strictness)
    definitions["stage"] = {"type": "object", "properties": tables["strict"], "additionalProperties": False}
    top = {
        "preset": _preset(),
        "plugins": {
            "type": "array",
            "items": {"type": "string"},
            "description": "Local Python files that are plugins too.",
        },
        "run": _settings_schema(RunSettings, "run", definitions)[0],
        "launcher": _ref("launcher.strict"),
        "stages": {"type": "object", "additionalProperties": _ref("stage")},
        "compare": _compare(tables["open"], definitions),
        "search": _search(definitions),
        **dict.fromkeys(STAGE_KEYS, True),
    }
    return {
        "$schema": DIALECT,
        "title": "A recipe of Tunesmith",
        "type": "object",
        "properties": top,
        "additionalProperties": False,
        "if": {"required": ["preset"]},
        "then": {"properties": tables["open"]},
        "else": {"properties": tables["strict"]},
        "$defs": definitions,
    }


def _stage(strictness: str) -> Schema:
    tables = {key: _ref(f"{key}.{strictness}") for key in TABLES}
    lists = {key: {"type": "array", "items": _ref(f"{key}.strict")} for key in LISTS}
    role = _ref(f"role.{strictness}")
    return {"model": role, "models": {"type": "object", "additionalProperties": role}, **tables, **lists}


def _role(strictness: str) -> Schema:
    """A model: a source with its own adapter and quantizer, or an earlier stage's."""
    own = {"adapter": _ref(f"adapter.{strictness}"), "quantizer": _ref(f"quantizer.{strictness}")}
    earlier = {
        "type": "object",
        "properties": {"from": {"type": "string"}, "carry": {"enum": ["continue", "merge"]}, **own},
        "required": ["from"],
        "additionalProperties": False,
    }
    return {"anyOf": [_ref(f"model.{strictness}"), earlier]}


def _compare(changeable: Schema, definitions: Schema) -> Schema:
    """[compare]: its settings, with an adapter's own keys in every entry."""
    described = _settings_schema(CompareSettings, "compare", definitions)[0]
    changes = {"type": "object", "properties": {key: changeable[key] for key in CHANGEABLE}}
    more = {
        "name": {"type": "string", "description": "What the entry is called; left out, its adapter and settings."},
        "set": {**changes, "additionalProperties": False, "description": "Other keys of the recipe for this entry."},
    }
    entries = []
    for name in dict.fromkeys(reference["$ref"] for reference in definitions["adapter.open"]["anyOf"] if reference):
        own = definitions[name.removeprefix("#/$defs/")]
        entries.append({**own, "properties": {**own["properties"], **more}, "required": ["use"]})
    definitions["compare.entry"] = {"anyOf": entries} if entries else {"not": {}}
    properties = described["properties"]
    properties["adapters"] = {**properties["adapters"], "items": _ref("compare.entry")}
    for key, kind in (("general", "data"), ("measure", "evaluate")):
        properties[key] = {"description": properties[key]["description"], **_ref(f"{kind}.strict")}
    return described


def _search(definitions: Schema) -> Schema:
    """[search]: the engine's keys, with those of a searcher."""
    own = _settings_schema(SearchSettings, "search", definitions)[0]["properties"]
    found = []
    for reference in definitions["search.open"]["anyOf"]:
        if reference:
            searcher = definitions[reference["$ref"].removeprefix("#/$defs/")]
            found.append({**searcher, "properties": {**searcher["properties"], **own}, "required": ["space"]})
    return {"anyOf": found} if found else {"not": {}}


def _preset() -> Schema:
    one = {"anyOf": [{"type": "string"}, _ref("preset.strict")]}
    return {"anyOf": [one, {"type": "array", "items": one}]}


def _component(entry: Entry, rivals: list[Entry], definitions: Schema) -> tuple[Schema, Schema]:
    """A component's schema with what it requires, and without."""
    component = entry.component
    alone = sum(other.component.name == component.name for other in rivals) == 1
    name = f"{component.kind}.{component.name}" if alone else f"{component.kind}.{entry.qualified.replace('/', '.')}"
    schema, required = _settings_schema(component.settings, name, definitions)
    schema["description"] = component.summary
    names = [component.name, entry.qualified] if alone else [entry.qualified]
    schema["properties"] = {"use": {"enum": names, "description": component.summary}, **schema["properties"]}
    if isinstance(component, Loader):
        steps = {"type": "array", "items": _ref("steps.strict"), "description": "What prepares the rows, in order."}
        sources = {"type": "object", "additionalProperties": _ref("data.strict"), "minProperties": 1}
        more = {"steps": steps, **({"sources": sources} if component.sources else {})}
        schema["properties"] = {**more, **schema["properties"]}
        required = ["use", *(["sources"] if component.sources else []), *required]
    elif component.kind == "model":  # a model may be found by its source alone, and carries its own line
        schema["properties"]["adapter"] = _ref("adapter.strict")
        schema["properties"]["quantizer"] = _ref("quantizer.strict")
    else:
        required = ["use", *required]
    if isinstance(component, Evaluator) and component.roles:
        roles = {role.name: {"description": role.summary, **_ref("role.strict")} for role in component.roles}
        schema["properties"]["models"] = {"type": "object", "properties": roles, "additionalProperties": False}
    definitions[name] = schema
    return {"$ref": f"#/$defs/{name}", "required": required}, _ref(name)


def _settings_schema(kind: type[Settings], name: str, definitions: Schema) -> tuple[Schema, list[str]]:
    """The schema of a settings class without `required`, and the required names."""
    from pydantic import TypeAdapter

    schema = TypeAdapter(kind).json_schema(ref_template=f"#/$defs/{name}.{{model}}")
    for inner, content in schema.pop("$defs", {}).items():
        definitions[f"{name}.{inner}"] = content
    required = schema.pop("required", [])
    docs = field_docs(kind)
    properties = schema.get("properties", {})
    for key, content in properties.items():
        content.pop("title", None)
        if docs.get(key):
            content["description"] = docs[key]
    return {"type": "object", "properties": properties, "additionalProperties": False}, required


def _ref(name: str) -> Schema:
    return {"$ref": f"#/$defs/{name}"}
