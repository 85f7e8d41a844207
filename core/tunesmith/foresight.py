"""What a component says about its settings before anything is loaded."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from pathlib import Path

from tunesmith.errors import PluginError
from tunesmith.guard import guarded
from tunesmith.registry import Entry
from tunesmith.spec import Settings


def notes_of(entry: Entry, settings: Settings, folder: Path, device: str) -> tuple[str, ...]:
    """Call a component's own check, if it has one, and return the sentences that it gives back.

    Args:
        folder: the recipe's folder.
        device: the recipe's device; handed to a check that has a parameter of that name.

    Raises:
        TunesmithError: what the check found.
        PluginError: it failed, or returned something else than sentences or None.
    """
    if not entry.component.check:
        return ()
    check = entry.component.resolve("check")
    options = {"device": device} if "device" in inspect.signature(check).parameters else {}
    with guarded(entry):
        found = check(settings, folder, **options)
        if isinstance(found, Iterable) and not isinstance(found, str):
            notes = tuple(found)  # a generator runs here
            if all(isinstance(note, str) for note in notes):
                return notes
        elif found is None:
            return ()
        raise PluginError(
            f"the check of {entry.component.kind} {entry.component.name!r} of {entry.plugin.distribution} "
            f"{entry.plugin.version} returned {found!r}; the contract says sentences, or None",
            fix="This is a defect of that plugin: `tunesmith plugins check NAME` shows more.",
        )
