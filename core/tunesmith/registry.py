"""Finding plugins and looking up what they yield.

A `Registry` is an object: make one with `Registry.discover()`, or make an empty one and `add` modules
by hand (tests do). Every plugin is imported, registered and checked in one guarded step of its own; what
goes wrong becomes a `Problem` and never stops the others.
"""

from __future__ import annotations

import copy
import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pluggy
import tomli

from tunesmith.discovery import GROUP as GROUP
from tunesmith.discovery import (
    LOCAL,
    Plugin,
    Problem,
    blocked_by_environment,
    disabled_plugins,
    entry_points,
    import_file,
    importable,
    normal,
)
from tunesmith.discovery import set_disabled as set_disabled
from tunesmith.errors import MissingError, RecipeError, Stopped, TunesmithError, message_of, nearest
from tunesmith.hooks import API_LEVEL, RECORD_HOOKS, check_hooks, new_manager
from tunesmith.isolation import isolated
from tunesmith.secrets import redact
from tunesmith.spec import KINDS, Component

C = TypeVar("C", bound=Component)


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
        """`distribution/name`: what to write when two plugins take one name."""
        return f"{self.plugin.distribution.removeprefix('tunesmith-')}/{self.component.name}"

    @property
    def exact(self) -> str:
        """`plugin/name`: tells two plugins of one distribution, or two local files, apart."""
        return f"{self.plugin.name}/{self.component.name}"

    def missing(self) -> list[str]:
        """Import names that the component requires and that are not installed here."""
        return [name for name in self.component.requires if not importable(name)]


class Registry:
    """The plugins of one process, and their records by kind and name."""

    def __init__(self) -> None:
        self.manager = new_manager()
        self.plugins: list[Plugin] = []
        self.problems: list[Problem] = []
        self._entries: list[Entry] = []
        self._modules: list[tuple[Plugin, Any]] = []
        self._silenced: set[str] = set()
        self.trusted_code: tuple[str, ...] = ()

    # --- filling ------------------------------------------------------------------------------
    @classmethod
    def discover(
        cls, *, disable: Sequence[str] = (), files: Sequence[Path] = (), trusted_code: Sequence[str] = ()
    ) -> Registry:
        """Find every installed plugin, in the order of (distribution, name).

        Args:
            disable: plugins or distributions to leave out, on top of `TUNESMITH_DISABLE` and of those
                disabled by `tunesmith plugins disable`. They are not imported.
            files: local Python files that are plugins too.
            trusted_code: models whose own code may be run (`Context.trusted_code`).
        """
        registry = cls()
        registry.trusted_code = tuple(trusted_code)
        blocked = {normal(name) for name in (*disable, *blocked_by_environment(), *disabled_plugins())}
        for plugin, point in sorted(entry_points(registry.problems), key=lambda item: _order(item[0])):
            if normal(plugin.name) in blocked or normal(plugin.distribution) in blocked:
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
        self._guarded(plugin, lambda: import_file(path))

    def _guarded(self, plugin: Plugin, load: Callable[[], Any]) -> None:
        """Import, register, check and list one plugin; a failure becomes a Problem."""
        self.plugins.append(plugin)
        registered = None
        try:
            with isolated(partial(_printed, plugin)):
                module = load()
            level = getattr(module, "tunesmith_api_level", API_LEVEL)
            if level > API_LEVEL:
                raise TunesmithError(f"needs API level {level}, but this core offers {API_LEVEL}: update tunesmith")
            check_hooks(module)
            registered = f"{plugin.distribution}/{plugin.name}"
            self.manager.register(module, name=registered)
            self.manager.check_pending()
            with isolated(partial(_printed, plugin)):
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
        found = [e for e in self.entries(kind) if name in (e.component.name, e.qualified, e.exact)]
        if len(found) == 1:
            return found[0]
        if found:
            apart = len({e.qualified for e in found}) == len(found)
            choices = [e.qualified if apart else e.exact for e in found]
            raise RecipeError(
                f"{len(found)} plugins offer the {kind} {name!r}",
                where=where,
                details=[
                    f"{choice}  ({e.plugin.distribution} {e.plugin.version})"
                    for choice, e in zip(choices, found, strict=True)
                ],
                fix=f'Write which one you mean, for example `use = "{choices[0]}"`.',
            )
        raise self._unknown(kind, name, where)

    def find_again(self, kind: str, name: str, distribution: str | None, *, where: str | None = None) -> Entry:
        """The record `name` that this distribution offered when something was made by it.

        Any plugin that offers the name will do where that distribution is no longer installed.

        Raises:
            MissingError: the distribution is here without the record, or no plugin offers it.
            RecipeError: several plugins offer it, and none of them is of that distribution.
        """
        if distribution not in {plugin.distribution for plugin in self.plugins}:
            return self.find(kind, name, where=where)
        return self.find(kind, f"{str(distribution).removeprefix('tunesmith-')}/{name}", where=where)

    def _unknown(self, kind: str, name: str, where: str | None) -> MissingError:
        names = sorted(e.component.name for e in self.entries(kind))
        details = [f"installed {kind}s: {', '.join(names) if names else 'none'}"]
        package = catalogue().get(kind, {}).get(name.rpartition("/")[2])
        provided = {normal(plugin.distribution) for plugin in self.plugins}
        near = nearest(name, names)
        if package and normal(package) not in provided:
            fix = f"Install it: pip install {package}"
        elif near:
            fix = f"Did you mean {near!r}?"
        else:
            fix = "`tunesmith plugins list` shows what is installed."
        for problem in self.problems:
            state = "is disabled" if problem.disabled else f"is broken: {problem.reason}"
            details.append(f"plugin {problem.plugin.distribution} {state}")
            if package and normal(package) == normal(problem.plugin.distribution):
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
                implementation(**{name: _own(arguments[name]) for name in names if name in arguments})
            except (KeyboardInterrupt, Stopped):
                raise
            except BaseException as error:
                self._silenced.add(key)
                warn(
                    f"observer {hook} of plugin {plugin.distribution} {plugin.version} failed and is off for "
                    f"the rest of this run: {type(error).__name__}: {message_of(error)}"
                )


# --- helpers ----------------------------------------------------------------------------------
def _own(value: Any) -> Any:
    """A copy that an observer may change without changing the run; an error stays what it is."""
    return value if isinstance(value, BaseException) else copy.deepcopy(value)


def _printed(plugin: Plugin, text: str) -> None:
    """Say on stderr what a plugin printed to stdout, which is for what a command was asked for."""
    print(f"plugin {plugin.distribution} printed when it was imported: {redact(text)!r}", file=sys.stderr)


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


def catalogue() -> dict[str, dict[str, str]]:
    """Which package offers which component, by kind: data for messages, not for resolving."""
    path = Path(__file__).with_name("catalogue.toml")
    return tomli.loads(path.read_text(encoding="utf-8"))
