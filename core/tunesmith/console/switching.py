"""Switching plugins off and on, without typer and rich: it must answer at once, whatever is wrong with the plugins."""

import sys

from tunesmith.console.paint import clean, painter
from tunesmith.discovery import disabled_plugins, entry_points, normal, set_disabled
from tunesmith.errors import MissingError, nearest


def switch(name: str, off: bool) -> int:
    """Switch a plugin off or on for good, and say what is off now; returns the exit code.

    Raises:
        MissingError: no installed plugin has that name; nothing is imported to find out.
    """
    check_known(name, also=[] if off else disabled_plugins())
    names = set_disabled(name, off)
    print(clean(f"switched off: {', '.join(names)}" if names else "every plugin is on"), file=sys.stderr)
    following = f"tunesmith plugins enable {name}" if off else "tunesmith plugins list"
    print(f"{painter('stderr')('next:', 'dim')} {clean(following)}", file=sys.stderr)
    return 0


def check_known(name: str, also: "list[str]") -> None:
    """Refuse a name that neither an installed plugin has nor `also` holds.

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
