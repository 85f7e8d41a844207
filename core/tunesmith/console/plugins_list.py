"""`tunesmith plugins list`: every component, and the plugins that cannot be used.

Printed without rich, and parsed without typer when the words are the plain ones: a listing must be quick.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.console.options import Options
from tunesmith.errors import UsageError, nearest

if TYPE_CHECKING:
    from tunesmith.registry import Registry

Item = dict[str, str | None]

FIELDS = ("name", "kind", "summary", "distribution", "version", "state", "reason")
COLOURS = {"ready": "green", "missing": "yellow", "disabled": "dim", "broken": "red"}
EXTRA_KINDS = ("observer", "plugin")


class Chosen:
    """The options of the command."""

    def __init__(self) -> None:
        self.kind: str | None = None
        self.as_json = False
        self.files: list[Path] = []


def parsed(words: list[str]) -> Chosen | None:
    """The options, or None when typer should look at the words (help, a mistake)."""
    chosen = Chosen()
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--json":
            chosen.as_json = True
        elif word in ("--kind", "--file") and rest and not rest[0].startswith("-"):
            value = rest.pop(0)
            if word == "--kind":
                chosen.kind = value
            else:
                chosen.files.append(Path(value))
        else:
            return None
    return chosen


def show(options: Options, chosen: Chosen) -> int:
    """Print the listing; returns the exit code."""
    if chosen.kind is not None:
        _check_kind(chosen.kind)
    found = [item for item in _found(options, chosen) if chosen.kind in (None, item["kind"])]
    if chosen.as_json:
        from tunesmith.console.paint import json_text

        print(json_text(found))
    else:
        _draw(found)
    return 0


def _check_kind(kind: str) -> None:
    from tunesmith.spec import KINDS

    kinds = (*KINDS, *EXTRA_KINDS)
    if kind not in kinds:
        near = nearest(kind, kinds)
        raise UsageError(
            f"there is no kind {kind!r}",
            fix=f"Did you mean {near!r}?" if near else f"Kinds: {', '.join(kinds)}.",
        )


def _found(options: Options, chosen: Chosen) -> list[Item]:
    """The listing, from the cache where nothing it depends on has changed."""
    from tunesmith.console import listing_cache

    # a process that holds a registry already may have changed what it finds
    usable = not chosen.files and "tunesmith.registry" not in sys.modules
    found = listing_cache.load(options.no_plugin) if usable else None
    if found is None:
        registry = options.registry(chosen.files)
        found = listing(registry)
        if usable:
            listing_cache.save(options.no_plugin, registry, found)
    return found


def listing(registry: Registry) -> list[Item]:
    """One object a component, and one for each plugin that is broken, disabled, or only observes."""
    found: list[Item] = []
    entries = registry.entries()
    taken: dict[tuple[str, str], int] = {}
    for entry in entries:
        key = (entry.component.kind, entry.component.name)
        taken[key] = taken.get(key, 0) + 1
    for entry in entries:
        component, plugin = entry.component, entry.plugin
        missing = entry.missing()
        reason = None
        if missing:
            reason = f"needs {', '.join(missing)}: pip install {plugin.distribution}"
        elif taken[component.kind, component.name] > 1:
            reason = f'the name is taken twice: write use = "{entry.qualified}"'
        values = (component.name, component.kind, component.summary, plugin.distribution, plugin.version)
        found.append(dict(zip(FIELDS, (*values, "missing" if missing else "ready", reason), strict=True)))
    silent = [*(entry.plugin for entry in entries), *(problem.plugin for problem in registry.problems)]
    for plugin in registry.plugins:
        if plugin not in silent:
            values = (plugin.name, "observer", "is told what happens in a run", plugin.distribution, plugin.version)
            found.append(dict(zip(FIELDS, (*values, "ready", None), strict=True)))
    for problem in registry.problems:
        plugin = problem.plugin
        state, reason = ("disabled", None) if problem.disabled else ("broken", problem.reason)
        if problem.disabled:
            reason = f"tunesmith plugins enable {plugin.name}"
        values = (plugin.name, "plugin", "", plugin.distribution, plugin.version)
        found.append(dict(zip(FIELDS, (*values, state, reason), strict=True)))
    return found


def _draw(found: list[Item]) -> None:
    from tunesmith.console.paint import clean, painter, table
    from tunesmith.secrets import known

    if not found:
        print("no plugins are installed here; pip install 'tunesmith[all]' brings the usual ones", file=sys.stderr)
        return
    heads = ("kind", "name", "state", "from", "what it is")
    rows, secrets = [], known()
    for item in found:
        about = item["summary"] or ""
        if item["reason"]:
            about = f"{about} ({item['reason']})" if about else item["reason"]
        source = f"{item['distribution']} {item['version']}"
        cells = (item["kind"], item["name"], item["state"], source, " ".join(about.split()))
        rows.append([clean(cell or "", secrets) for cell in cells])
    print(table(heads, rows, style=lambda column, text: COLOURS.get(text) if column == 2 else None), end="")
    print(f"{painter('stderr')('next:', 'dim')} tunesmith plugins show NAME", file=sys.stderr)
