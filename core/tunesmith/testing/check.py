"""`check_plugin`: every check of the conformance kit on one installed plugin.

Checks are grouped by what they look at: `checks_listing` at the plugin and its records, `checks_settings` at
the settings classes, `checks_adapter` at what an adapter does to a small model, `checks_step` at what a step does to
rows.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

from tunesmith.discovery import Plugin, normal
from tunesmith.errors import MissingError, nearest
from tunesmith.registry import Entry, Registry
from tunesmith.spec import Adapter, Preset, Step
from tunesmith.testing import checks_listing, checks_settings
from tunesmith.testing.result import CheckResult, run_check

#: Settings to try a component with: one table, or several to try in turn.
Examples = Mapping[str, Mapping[str, Any] | Sequence[Mapping[str, Any]]]

__all__ = ["CheckResult", "Examples", "check_plugin", "failures"]


def check_plugin(name: str, registry: Registry, examples: Examples | None = None) -> list[CheckResult]:
    """Check one plugin against the contract.

    Args:
        name: a plugin, a distribution (all its plugins), or a component (`lora`, `house/lora`).
        registry: where the plugin is registered, or has failed to.
        examples: settings by component name, for components with required settings or with branches worth a
            trial each; default: the dictionary `tunesmith_examples` in the plugin's module, or else the
            defaults.

    Returns:
        One result a check; those about a component come in the order in which the plugin yields it.

    Raises:
        MissingError: there is no such plugin here, or it is disabled.
    """
    plugins, entries = _find(name, registry)
    results: list[CheckResult] = []
    for plugin in plugins:
        results.extend(checks_listing.check(plugin, registry))
    with tempfile.TemporaryDirectory(prefix="tunesmith-check-") as folder:
        quantized = partial(_quantized, registry, Path(folder))
        for entry in entries:
            results.extend(_component(entry, examples or _own_examples(entry, registry), quantized))
    return results


@cache
def _quantized(registry: Registry, folder: Path) -> list[Any]:
    """The quantized bases that adapters are tried on, made when the first adapter comes."""
    from tunesmith.testing import checks_quantized

    return checks_quantized.bases(registry, folder)


def _component(entry: Entry, examples: Examples, quantized: Callable[[], list[Any]]) -> Iterator[CheckResult]:
    component = entry.component
    label = f"{component.kind} {component.name}"
    missing = entry.missing()
    resolved = run_check("factories-resolve", label, lambda: checks_listing.resolves(component, missing))
    yield resolved
    given = examples.get(component.name, [{}])
    tables = [given] if isinstance(given, Mapping) else list(given)
    trials, built = checks_settings.build(component, tables)
    yield from (CheckResult("settings-defaults", ok, detail, label) for ok, detail in built)
    yield run_check("settings-documented", label, lambda: checks_settings.documented(component.settings))
    read: set[str] = set()
    if resolved.ok:
        for settings, title in trials:
            place = f"{label} {title}".rstrip()
            if isinstance(component, Adapter):
                from tunesmith.testing import checks_adapter

                yield from checks_adapter.check(entry, settings, place, read, quantized())
            elif isinstance(component, Step):
                from tunesmith.testing import checks_step

                yield run_check("step-accounts", place, partial(checks_step.accounts, entry, settings))
            elif isinstance(component, Preset):
                yield run_check("preset-valid", place, lambda made=settings: checks_settings.preset(component, made))  # type: ignore[misc]
    yield run_check("settings-read", label, lambda: checks_settings.read(component, read))


def _find(name: str, registry: Registry) -> tuple[list[Plugin], list[Entry]]:
    """The plugins that a name means, and those of their records that are to be checked."""
    wanted = normal(name)
    # a distribution whose metadata is damaged is known by its problem only
    known = dict.fromkeys([*registry.plugins, *(problem.plugin for problem in registry.problems)])
    plugins = [p for p in known if wanted in (normal(p.name), normal(p.distribution))]
    entries = [entry for entry in registry.entries() if entry.plugin in plugins]
    if not plugins:
        entries = [e for e in registry.entries() if name in (e.component.name, e.qualified)]
        plugins = list(dict.fromkeys(entry.plugin for entry in entries))
    if not plugins:
        names = [*(p.name for p in known), *(e.component.name for e in registry.entries())]
        near = nearest(name, names)
        raise MissingError(
            f"there is no plugin or component named {name!r} here",
            fix=f"Did you mean {near!r}?" if near else "`tunesmith plugins list` shows what is installed.",
        )
    for problem in registry.problems:
        if problem.plugin in plugins and problem.disabled:
            raise MissingError(
                f"plugin {problem.plugin.name!r} is disabled, so it cannot be checked",
                fix=f"Enable it: tunesmith plugins enable {problem.plugin.name}",
            )
    return plugins, entries


def _own_examples(entry: Entry, registry: Registry) -> Examples:
    found = getattr(checks_listing.module_of(entry.plugin, registry), "tunesmith_examples", {})
    return found if isinstance(found, Mapping) else {}


def failures(results: Sequence[CheckResult]) -> list[str]:
    """One line a check that did not pass: its name, what is wrong, and in which component."""
    return [
        f"{result.name}: {result.detail}" + (f" [{result.component}]" if result.component else "")
        for result in results
        if not result.ok
    ]
