"""What components say about their settings before anything is loaded, and what of it excludes itself."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from pathlib import Path

from tunesmith.errors import PluginError, RecipeError, TunesmithError
from tunesmith.guard import guarded
from tunesmith.plan import Use
from tunesmith.registry import Entry
from tunesmith.spec import Model, Settings


def notes_of(entry: Entry, settings: Settings, folder: Path, device: str, where: str) -> tuple[str, ...]:
    """Call a component's own check, if it has one, and return the sentences that it gives back.

    Args:
        folder: the recipe's folder.
        device: the recipe's device; handed to a check that has a parameter of that name.
        where: the place of the component in the recipe, for an error that names none.

    Raises:
        TunesmithError: what the check found.
        PluginError: it failed, or returned something else than sentences or None.
    """
    if not entry.component.check:
        return ()
    check = entry.component.resolve("check")
    options = {"device": device} if "device" in inspect.signature(check).parameters else {}
    try:
        with guarded(entry):
            found = check(settings, folder, **options)
            # a generator runs here
            notes = tuple(found) if isinstance(found, Iterable) and not isinstance(found, str) else (found,)
    except TunesmithError as error:
        error.where = error.where or where
        raise
    if found is None:
        return ()
    if not all(isinstance(note, str) for note in notes) or isinstance(found, str):
        raise PluginError(
            f"the check of {entry.component.kind} {entry.component.name!r} of {entry.plugin.distribution} "
            f"{entry.plugin.version} returned {found!r}; the contract says sentences, or None",
            where=where,
            fix="This is a defect of that plugin: `tunesmith plugins check NAME` shows more.",
        )
    return notes


def check_dense(model: Use, quantizer: Use | None, folder: Path, where: str) -> None:
    """Refuse a quantizer over weights that are stored quantized, where the model source can tell.

    Raises:
        RecipeError: they are.
    """
    assert isinstance(model.component, Model)
    if quantizer is None or not model.component.quantized:
        return
    with guarded(model):
        stored = model.component.resolve("quantized")(model.settings, folder)
    if stored:
        raise RecipeError(
            f"the base is stored quantized ({stored}) already, and {quantizer.component.name} cannot quantize it again",
            where=where,
            fix="Leave out [quantizer], or give the same model in full precision.",
        )
