"""`tunesmith plugins enable` and `disable`: plugins switched off for good are not even imported."""

from __future__ import annotations

from typing import Annotated

import typer

from tunesmith.console.out import next_steps, note
from tunesmith.discovery import disabled_plugins, entry_points, normal, set_disabled
from tunesmith.errors import MissingError, nearest

Name = Annotated[str, typer.Argument(metavar="NAME", help="A plugin or a distribution.")]


def disable(name: Name) -> None:
    """Switch a plugin off. `--no-plugin NAME` does so for one command."""
    _known(name, also=[])
    _say(set_disabled(name, True))
    next_steps(f"tunesmith plugins enable {name}")


def enable(name: Name) -> None:
    """Switch a plugin on again."""
    _known(name, also=disabled_plugins())
    _say(set_disabled(name, False))
    next_steps("tunesmith plugins list")


def _say(names: list[str]) -> None:
    note(f"switched off: {', '.join(names)}" if names else "every plugin is on")


def _known(name: str, also: list[str]) -> None:
    """Refuse a name that no installed plugin has; nothing is imported to find out.

    Raises:
        MissingError: with the nearest name.
    """
    found = [plugin for plugin, _ in entry_points([])]
    plugins = sorted({plugin.name for plugin in found})
    names = {*also, *plugins, *(plugin.distribution for plugin in found)}
    if normal(name) not in {normal(known) for known in names}:
        near = nearest(name, sorted(names))
        raise MissingError(
            f"there is no plugin named {name!r} here",
            details=[f"installed plugins: {', '.join(plugins) or 'none'}"],
            fix=f"Did you mean {near!r}?" if near else None,
        )
