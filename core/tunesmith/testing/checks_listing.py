"""Checks of a plugin as a whole: it registers, its hooks exist, listing it is cheap, its references resolve."""

from __future__ import annotations

import importlib
import inspect
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from tunesmith.discovery import Plugin, import_file
from tunesmith.hooks import API_LEVEL, check_hooks
from tunesmith.registry import Registry
from tunesmith.spec import Component, Evaluator, Model
from tunesmith.testing.result import HEAVY, CheckResult, Failed, explain, listed, run_check

#: What each kind's factory is called with.
ARGUMENTS = {
    "loader": ("settings", "context"),
    "step": ("settings", "context"),
    "searcher": ("space", "settings", "context"),
    "model": ("settings", "context", "head", "load_options"),
    "quantizer": ("settings", "context"),
    "adapter": ("handle", "settings", "context"),
    "trainer": ("models", "data", "settings", "context"),
    "evaluator": ("handle", "data", "settings", "context"),
    "exporter": ("artifact", "settings", "context"),
    "launcher": ("plan", "settings", "context"),
    "preset": ("settings",),
}

#: What the optional references of a record are called with.
OPTIONS = {
    "check": ("settings", "folder"),
    "formula": ("model", "settings"),
    "quantized": ("settings", "folder"),
    "tokenizer": ("settings", "context"),
    "unpack": ("settings", "shape", "device"),
    "encode": ("data", "handles", "settings", "context"),
    "show": ("data", "handles", "settings", "context"),
    "preview": ("rows", "record_type", "settings", "tokenizer"),
}

#: What the reference `estimate` of each kind that is asked is called with.
ESTIMATES = {
    "model": ("settings", "context", "head"),
    "quantizer": ("settings", "sizes"),
    "adapter": ("settings", "sizes"),
    "trainer": ("settings", "sizes", "trained", "lengths"),
}

#: Run in a fresh interpreter: lists one plugin and tells which heavy libraries that imported, and from where.
PROBE = """
import importlib, json, sys, traceback
from pathlib import Path
asked = json.load(sys.stdin)
sys.path[:] = asked["path"]
places = {}
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name in asked["heavy"] and name not in places:
            frames = [f for f in traceback.extract_stack()[:-1] if "importlib" not in f.filename]
            places[name] = f"{frames[-1].filename}:{frames[-1].lineno}"
sys.meta_path.insert(0, Watch())
from tunesmith.registry import Registry
registry = Registry()
if asked["file"]:
    registry.add_file(Path(asked["file"]))
else:
    registry.add(importlib.import_module(asked["module"]))
json.dump({name: places.get(name, "") for name in asked["heavy"] if name in sys.modules}, sys.stdout)
"""


def check(plugin: Plugin, registry: Registry) -> Iterator[CheckResult]:
    """The checks of the plugin itself; the first that fails keeps the others from being meaningful."""
    problem = next((p.reason for p in registry.problems if p.plugin == plugin), None)
    try:
        module = module_of(plugin, registry)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        # without a location there was nothing to import: only the registry knows what is wrong
        reason = explain(error) if plugin.location or problem is None else problem
        yield CheckResult("registers", False, f"plugin {plugin.name!r} cannot be imported: {reason}")
        return
    level = run_check("api-level", "", lambda: _level(module))
    hooks = run_check("hooks-known", "", lambda: _hooks(module))
    yield from (level, hooks)
    if level.ok and hooks.ok:
        kinds = [entry.component.kind for entry in registry.entries() if entry.plugin == plugin]
        counts = [f"{kinds.count(kind)} {kind}{'s' * (kinds.count(kind) > 1)}" for kind in dict.fromkeys(kinds)]
        yield CheckResult("registers", problem is None, problem or f"yields {', '.join(counts) or 'no record'}")
    if isinstance(module, ModuleType):
        yield run_check("listing-light", "", lambda: _light(plugin, module))


def module_of(plugin: Plugin, registry: Registry) -> Any:
    """The module (or object) of a plugin, whether or not it could be registered."""
    for known, module in registry._modules:
        if known == plugin:
            return module
    if plugin.location.endswith(".py"):
        return import_file(Path(plugin.location))  # once more, so that the error can be told
    return importlib.import_module(plugin.location.partition(":")[0] or plugin.name)


def resolves(component: Component, missing: list[str]) -> str:
    """Every reference of a record can be imported, and takes the arguments it will be given."""
    if missing:
        raise Failed(f"it requires {', '.join(missing)}, not installed here, so it cannot be checked")
    models = ("models",) if isinstance(component, Evaluator) and component.roles else ()
    _takes(component, "factory", (*ARGUMENTS[component.kind], *models))
    found = ["factory"]
    for option, arguments in OPTIONS.items():
        if getattr(component, option, ""):
            _takes(component, option, arguments)
            found.append(option)
    if component.estimate:
        _takes(component, "estimate", ESTIMATES.get(component.kind, ("settings",)))
        found.append("estimate")
    if getattr(component, "arguments", ""):
        component.resolve("arguments")
        found.append("arguments")
    if isinstance(component, Model):
        claim = component.claims("no such source", Path.cwd())
        if not isinstance(claim, int):
            raise Failed(f"claims(source, folder) returned {claim!r}; it must return a number, 0 for no")
        found.append("claims")
    return f"{', '.join(found)} found"


def _takes(component: Component, option: str, arguments: tuple[str, ...]) -> None:
    function = component.resolve(option)
    try:
        signature = inspect.signature(function)
    except ValueError:  # written in C: it cannot be asked
        return
    try:
        known = {"device": "cpu", "evaluators": (), "sources": ()} if option == "check" else {}
        extra = {name: value for name, value in known.items() if name in signature.parameters}
        signature.bind(*arguments, **extra)
    except TypeError as error:
        raise Failed(f"its {option} takes {signature}, but is called with ({', '.join(arguments)}): {error}") from error


def _level(module: Any) -> str:
    level = getattr(module, "tunesmith_api_level", API_LEVEL)
    if level > API_LEVEL:
        raise Failed(f"needs API level {level}, but this core offers {API_LEVEL}: update tunesmith")
    return f"level {level} of {API_LEVEL}"


def _hooks(module: Any) -> str:
    check_hooks(module)
    names = [name for name in dir(module) if hasattr(getattr(module, name, None), "tunesmith_impl")]
    return f"implements {listed(names)}"


def _light(plugin: Plugin, module: ModuleType) -> str:
    local = plugin.location if plugin.location.endswith(".py") else ""
    asked = {"path": sys.path, "heavy": HEAVY, "file": local, "module": module.__name__}
    done = subprocess.run(
        [sys.executable, "-c", PROBE], input=json.dumps(asked), capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode:
        raise Failed(f"listing fails in a fresh interpreter: {(done.stderr.strip().splitlines() or ['no output'])[-1]}")
    heavy = json.loads(done.stdout.splitlines()[-1])
    if heavy:
        places = [f"{name} ({place})" if place else name for name, place in heavy.items()]
        raise Failed(f"listing imports {listed(places)}; import it inside the function that needs it")
    return "listing imports no heavy library"
