"""Finding plugins and looking up what they yield.

A `Registry` is an object: make one with `Registry.discover()`, or make an empty one and `add` modules
by hand (tests do). Every plugin is imported, registered and checked in one guarded step of its own; what
goes wrong becomes a `Problem` and never stops the others.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import pluggy
import tomli

from tunesmith.errors import MissingError, RecipeError, Stopped, TunesmithError, nearest
from tunesmith.guard import message_of
from tunesmith.hooks import API_LEVEL, OBSERVER_HOOKS, PROJECT, RECORD_HOOKS, new_manager
from tunesmith.places import disabled_file
from tunesmith.spec import KINDS, Component

GROUP = "tunesmith"
LOCAL = "local"  # the distribution of plugins that are files or objects
C = TypeVar("C", bound=Component)


@dataclass(frozen=True)
class Plugin:
    """One module that yields records, and where it comes from."""

    name: str
    distribution: str
    version: str
    location: str = ""


@dataclass(frozen=True)
class Problem:
    """A plugin, or a part of one, that cannot be used."""

    plugin: Plugin
    reason: str
    disabled: bool = False


@dataclass(frozen=True)
class Entry:
    """A record together with the plugin that yielded it."""

    component: Component
    plugin: Plugin

    @property
    def distribution(self) -> str:
        return self.plugin.distribution

    @property
    def version(self) -> str:
        return self.plugin.version

    @property
    def qualified(self) -> str:
        """`distribution/name`: what to write when two plugins take one name.

        Local files are told apart by the file's name: `my_method/lora`.
        """
        local = self.plugin.distribution == LOCAL
        owner = self.plugin.name if local else self.plugin.distribution.removeprefix("tunesmith-")
        return f"{owner}/{self.component.name}"

    def missing(self) -> list[str]:
        """Import names that the component requires and that are not installed here."""
        return [name for name in self.component.requires if not _importable(name)]


class Registry:
    """The plugins of one process, and their records by kind and name."""

    def __init__(self) -> None:
        self.manager = new_manager()
        self.plugins: list[Plugin] = []
        self.problems: list[Problem] = []
        self._entries: list[Entry] = []
        self._modules: list[tuple[Plugin, Any]] = []
        self._silenced: set[str] = set()

    # --- filling ------------------------------------------------------------------------------
    @classmethod
    def discover(cls, *, disable: Sequence[str] = (), files: Sequence[Path] = ()) -> Registry:
        """Find every installed plugin, in the order of (distribution, name).

        Args:
            disable: plugins or distributions to leave out, on top of `TUNESMITH_DISABLE` and of those
                disabled by `tunesmith plugins disable`. They are not imported.
            files: local Python files that are plugins too.
        """
        registry = cls()
        blocked = {_normal(name) for name in (*disable, *_blocked_by_environment(), *disabled_plugins())}
        for plugin, point in sorted(_entry_points(registry.problems), key=lambda item: _order(item[0])):
            if _normal(plugin.name) in blocked or _normal(plugin.distribution) in blocked:
                registry.plugins.append(plugin)
                registry.problems.append(Problem(plugin, "disabled", disabled=True))
                continue
            registry._guarded(plugin, point.load)
        for file in files:
            registry.add_file(file)
        return registry

    def add(self, module: Any, *, name: str = "", distribution: str = LOCAL, version: str = "0") -> None:
        """Register a module or an object with hook implementations."""
        self._guarded(Plugin(name or getattr(module, "__name__", str(module)), distribution, version), lambda: module)

    def add_file(self, path: Path) -> None:
        """Import a local Python file and register it as a plugin.

        Raises:
            RecipeError: there is no such file.
        """
        if not path.is_file():
            raise RecipeError(f"the plugin file {path} does not exist", fix="Mend `plugins = [...]` in the recipe.")
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        plugin = Plugin(path.stem, LOCAL, digest[:12], str(path))
        self._guarded(plugin, lambda: _import_file(path))

    def _guarded(self, plugin: Plugin, load: Callable[[], Any]) -> None:
        """Import, register, check and list one plugin; a failure becomes a Problem."""
        self.plugins.append(plugin)
        registered = None
        try:
            module = load()
            level = getattr(module, "tunesmith_api_level", API_LEVEL)
            if level > API_LEVEL:
                raise TunesmithError(f"needs API level {level}, but this core offers {API_LEVEL}: update tunesmith")
            _check_hooks(module)
            registered = f"{plugin.distribution}/{plugin.name}"
            self.manager.register(module, name=registered)
            self.manager.check_pending()
            entries = list(_records(module, plugin))
            _check_names(entries)
            self._entries.extend(entries)
            self._modules.append((plugin, module))
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            # a plugin is a stranger's code: whatever it raises must not keep the others from working, be it
            # SystemExit or the panic of a library in another language
            if registered is not None and self.manager.has_plugin(registered):
                self.manager.unregister(name=registered)
            text = message_of(error)
            shown = text if isinstance(error, TunesmithError) else f"{type(error).__name__}: {text}"
            self.problems.append(Problem(plugin, shown))

    # --- looking up ---------------------------------------------------------------------------
    def entries(self, kind: str | None = None) -> list[Entry]:
        """All records, or those of one kind, in order of discovery."""
        return [entry for entry in self._entries if kind is None or entry.component.kind == kind]

    def get(self, kind: type[C], name: str) -> C:
        """The record `name` of a kind; see `find`."""
        return self.find(kind.kind, name).component  # type: ignore[return-value]

    def find(self, kind: str, name: str, *, where: str | None = None) -> Entry:
        """The record that a recipe means by `use = name`.

        Args:
            kind: "adapter", "trainer", ...
            name: a component's name, or `distribution/name` when two plugins share it.
            where: the place in the recipe, for the message.

        Raises:
            MissingError: no plugin offers it here: which package to install, or what is broken.
            RecipeError: two plugins offer it: what to write instead.
        """
        found = [e for e in self.entries(kind) if name in (e.component.name, e.qualified)]
        if len(found) == 1:
            return found[0]
        if found:
            raise RecipeError(
                f"{len(found)} plugins offer the {kind} {name!r}",
                where=where,
                details=[f"{e.qualified}  ({e.plugin.distribution} {e.plugin.version})" for e in found],
                fix=f'Write which one you mean, for example `use = "{found[0].qualified}"`.'
                if len({e.qualified for e in found}) == len(found)
                else f"Block one of the plugins: {', '.join(sorted({e.plugin.name for e in found}))}.",
            )
        raise self._unknown(kind, name, where)

    def _unknown(self, kind: str, name: str, where: str | None) -> MissingError:
        names = sorted(e.component.name for e in self.entries(kind))
        details = [f"installed {kind}s: {', '.join(names) if names else 'none'}"]
        package = catalogue().get(kind, {}).get(name.rpartition("/")[2])
        provided = {_normal(plugin.distribution) for plugin in self.plugins}
        near = nearest(name, names)
        if package and _normal(package) not in provided:
            fix = f"Install it: pip install {package}"
        elif near:
            fix = f"Did you mean {near!r}?"
        else:
            fix = "`tunesmith plugins list` shows what is installed."
        for problem in self.problems:
            state = "is disabled" if problem.disabled else f"is broken: {problem.reason}"
            details.append(f"plugin {problem.plugin.distribution} {state}")
            if package and _normal(package) == _normal(problem.plugin.distribution):
                fix = (
                    f"Enable it: tunesmith plugins enable {problem.plugin.name}"
                    if problem.disabled
                    else f"Mend or reinstall it: pip install --force-reinstall {package}"
                )
        return MissingError(f"there is no {kind} named {name!r} here", where=where, details=details, fix=fix)

    # --- observers ----------------------------------------------------------------------------
    def notify(self, hook: str, warn: Callable[[str], None], **arguments: Any) -> None:
        """Tell every observer; one that raises is reported and left out until the next run begins."""
        if hook == "tunesmith_run_started":
            self._silenced.clear()
        for plugin, module in self._modules:
            implementation = getattr(module, hook, None)
            key = f"{plugin.distribution}/{plugin.name}"
            if implementation is None or key in self._silenced:
                continue
            options = self.manager.parse_hookimpl_opts(module, hook)
            if options is None:
                continue
            names, _ = pluggy._hooks.varnames(implementation)
            try:
                implementation(**{name: arguments[name] for name in names if name in arguments})
            except (KeyboardInterrupt, Stopped):
                raise
            except BaseException as error:
                self._silenced.add(key)
                warn(
                    f"observer {hook} of plugin {plugin.distribution} {plugin.version} failed and is off for "
                    f"the rest of this run: {type(error).__name__}: {message_of(error)}"
                )


# --- helpers ----------------------------------------------------------------------------------
def _entry_points(problems: list[Problem]) -> Iterator[tuple[Plugin, metadata.EntryPoint]]:
    """The entry points of the group; of a distribution that is on the path twice the first counts.

    `importlib.metadata.entry_points()` raises when the metadata of any one distribution is damaged (a line without
    an equals sign, an installation that was cut short); here that distribution becomes a Problem.
    """
    seen: set[str] = set()
    for distribution in metadata.distributions():
        name = ""
        try:
            name = distribution._normalized_name  # type: ignore[attr-defined]  # the folder's name: reads no file
            if name in seen:
                continue
            seen.add(name)
            text = distribution.read_text("entry_points.txt")
            if not text or f"[{GROUP}]" not in text:
                continue
            for point in distribution.entry_points:
                if point.group == GROUP:
                    yield Plugin(point.name, distribution.name, distribution.version, point.value), point
        except Exception as error:
            plugin = Plugin(name or "unknown", name or "unknown", "0")
            problems.append(Problem(plugin, f"its metadata is damaged: {type(error).__name__}: {message_of(error)}"))


def _order(plugin: Plugin) -> tuple[str, str]:
    return plugin.distribution, plugin.name


def _check_names(entries: Sequence[Entry]) -> None:
    """Refuse a plugin that yields one name twice: no recipe could tell which is meant."""
    taken: set[tuple[str, str]] = set()
    for entry in entries:
        place = (entry.component.kind, entry.component.name)
        if place in taken:
            raise TunesmithError(f"yields two {place[0]}s named {place[1]!r}")
        taken.add(place)


def _normal(name: str) -> str:
    return name.strip().lower().replace("_", "-")


def _importable(name: str) -> bool:
    if name in sys.modules:
        return True
    try:
        # a dotted name would import its parent; the top level is enough to know
        return importlib.util.find_spec(name.partition(".")[0]) is not None
    except (ImportError, ValueError):
        return False


def _import_file(path: Path) -> ModuleType:
    name = f"tunesmith_local_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise MissingError(f"{path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # so that "tunesmith_local_NAME:callable" resolves
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _check_hooks(module: Any) -> None:
    """Refuse functions that look like hooks but are not in the specification, or are not marked."""
    known = [*RECORD_HOOKS, *OBSERVER_HOOKS]
    found = 0
    for name in dir(module):
        value = getattr(module, name, None)
        marked = hasattr(value, f"{PROJECT}_impl")
        near = nearest(name, known) if name.startswith("tunesmith_") else None
        if marked and name not in known:
            hint = f"did you mean {near}?" if near else f"there are: {', '.join(known)}"
            raise TunesmithError(f"{name} is not a hook of tunesmith; {hint}")
        if not marked and near and (inspect.isfunction(value) or inspect.ismethod(value)):
            hint = "" if name == near else f" and is not a hook; did you mean {near}?"
            raise TunesmithError(f"{name} is not marked with @tunesmith.hookimpl{hint}")
        found += marked
    if not found:
        raise TunesmithError("implements no hook: mark functions with @tunesmith.hookimpl")


def _records(module: Any, plugin: Plugin) -> Iterator[Entry]:
    for hook, kind in RECORD_HOOKS.items():
        implementation = getattr(module, hook, None)
        if implementation is None:
            continue
        yielded = implementation()
        if not isinstance(yielded, Iterable) or isinstance(yielded, (str, bytes, Mapping)):
            raise TunesmithError(f"{hook} must yield {KINDS[kind].__name__} records, not {type(yielded).__name__}")
        for record in yielded:
            if not isinstance(record, KINDS[kind]):
                raise TunesmithError(
                    f"{hook} yielded {type(record).__name__}; it must yield {KINDS[kind].__name__} records"
                )
            yield Entry(record, plugin)


def _blocked_by_environment() -> list[str]:
    return [name for name in os.environ.get("TUNESMITH_DISABLE", "").split(",") if name.strip()]


def disabled_plugins() -> list[str]:
    """The plugins that the person has switched off for good."""
    path = disabled_file()
    if not path.is_file():
        return []
    try:
        names = tomli.loads(path.read_text(encoding="utf-8")).get("disabled", [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError("`disabled` must be a list of names")
    except (OSError, ValueError) as error:
        raise RecipeError(
            f"cannot read the list of disabled plugins: {error}", where=str(path), fix="Mend or remove that file."
        ) from error
    return names


def set_disabled(name: str, disabled: bool) -> list[str]:
    """Switch a plugin off or on for good; returns the names that are off now."""
    import json

    from tunesmith.store import write_file

    names = {other for other in disabled_plugins() if _normal(other) != _normal(name)}
    if disabled:
        names.add(name)
    path = disabled_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file(path, f"disabled = {json.dumps(sorted(names))}\n")
    return sorted(names)


def catalogue() -> dict[str, dict[str, str]]:
    """Which package offers which component, by kind: data for messages, not for resolving."""
    path = Path(__file__).with_name("catalogue.toml")
    return tomli.loads(path.read_text(encoding="utf-8"))
