"""What the JSON files of a run folder hold, so that one that somebody or a disk has changed is named."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any

from tunesmith.store import parse_json

#: Any keys, whose values are all of one shape.
EACH = "*"
NUMBER = (int, float, NoneType)
TEXT = (str, NoneType)
MEASURE = {
    **dict.fromkeys(("value", "low", "high", "n"), NUMBER),
    **dict.fromkeys(("better", "unit"), TEXT),
    **{key: [NUMBER] for key in ("per_row", "weights")},
    **{key: [str] for key in ("rows", "groups")},
}
MEASURES = {"measures": {EACH: MEASURE}}
FIGURES = ("steps", "total_steps", "seconds", "tokens", "trainable_parameters")
RESULT = {
    "before": MEASURES,
    "after": MEASURES,
    "training": {
        "steps": NUMBER,
        "total_steps": NUMBER,
        "seconds": NUMBER,
        "tokens": NUMBER,
        "metrics": {EACH: NUMBER},
    },
    "ledger": dict,
    "facts": dict,
    "exports": [str],
    "seconds": {EACH: NUMBER},
    "memory": {"bytes": NUMBER, "of": TEXT},
    "held_out": str,
    "verdict": [dict],
    "reused": TEXT,
}
#: A shape is a type, several, a table by keys that may be missing, or a list of one element's shape.
RUN = {
    "manifest.json": {
        "created": TEXT,
        "recipe": TEXT,
        "recipe_folder": str,
        "plan": {"stages": [{"name": str, "fingerprint": str}], "run": dict},
        "environment": {"libraries": {EACH: str}},
        "trusted_code": [str],
    },
    "state.json": {"status": str, "stage": TEXT, "error": TEXT, "updated": TEXT, "exit_code": NUMBER},
    "results.json": {EACH: RESULT},
}
STAGE = {"result.json": RESULT, "evaluation-before.json": MEASURES}
NOTES = {"space": list, "trials": {EACH: {"error": TEXT, "value": NUMBER, "measure": TEXT, "better": TEXT}}}
NAMES = {dict: "an object", list: "a list", str: "text", int: "a number", float: "a number"}


def wrong(value: Any, shape: Any, path: str = "") -> str | None:
    """The first part of a value that is not of its shape, as "`results.main.seconds` is text"; None when all is."""
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return _said(path, value, "an object")
        parts = [(key, item, shape.get(key, shape.get(EACH))) for key, item in value.items()]
    elif isinstance(shape, list):
        if not isinstance(value, list):
            return _said(path, value, "a list")
        parts = [(str(place), item, shape[0]) for place, item in enumerate(value)]
    else:
        if isinstance(value, shape) and not (isinstance(value, bool) and shape is NUMBER):
            return None
        wanted = shape if isinstance(shape, tuple) else (shape,)
        return _said(path, value, NAMES[wanted[0]])
    inside = ((f"{path}.{key}" if path else key, item, part) for key, item, part in parts if part is not None)
    return next((said for found in inside if (said := wrong(found[1], found[2], found[0]))), None)


def _said(path: str, value: Any, wanted: str) -> str:
    where = f"`{path[:80]}`" if path else "it"
    return f"{where} is {NAMES.get(type(value), repr(value))}, not {wanted}"


def problem(path: Path, shape: Any) -> str | None:
    """What is wrong with a JSON file; None when it has its shape, or is not there."""
    try:
        if not path.is_file():
            return None
        value = parse_json(path.read_text(encoding="utf-8", errors="replace"))
    except ValueError as error:
        return f"it is no JSON: {error}"
    except OSError as error:
        return f"it cannot be read: {error.strerror or error}"
    return wrong(value, shape)


def problems(run: Path) -> Mapping[Path, str]:
    """The files of a run folder that do not hold what was written there, each with what is wrong."""
    places = [run, *(path for path in sorted(run.glob("stages/*")) if path.is_dir())]
    files = {
        **{run / name: shape for name, shape in RUN.items()},
        **{place / name: shape for place in places for name, shape in STAGE.items()},
    }
    found = {path: said for path, shape in files.items() if (said := problem(path, shape))}
    manifest = run / "manifest.json"
    if manifest not in found and manifest.is_file() and not _stages(parse_json(manifest.read_bytes())):
        found[manifest] = "it names no stage"
    return found


def _stages(manifest: Mapping[str, Any]) -> bool:
    stages = manifest.get("plan", {}).get("stages", [])
    return bool(stages) and all("name" in stage for stage in stages)
