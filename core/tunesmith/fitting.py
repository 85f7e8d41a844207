"""Whether settings fit a model, by its configuration alone: what a run would refuse once the model is loaded."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from tunesmith.context import Context
from tunesmith.errors import RecipeError, TunesmithError
from tunesmith.guard import guarded, wrong_type
from tunesmith.plan import Use
from tunesmith.spec import Adapter, Head, Model, Trainer

#: A model's own configuration; None where it is not known before the model is fetched and built.
Config = Mapping[str, Any] | None
#: The shape of each stored tensor of a model, by name; None where these are not known.
Shapes = Mapping[str, tuple[int, ...]] | None


def config_of(model: Use, context: Context) -> Config:
    """The configuration of a model, as far as its source can read it without fetching or loading anything."""
    return _told(model, "config", context)


def shapes_of(model: Use | None, context: Context) -> Shapes:
    """The shapes of a model's stored tensors, as far as its source can read them without fetching anything."""
    return _told(model, "shapes", context) if model else None


def checked_model(model: Use, config: Config, context: Context, where: Callable[..., str]) -> Use:
    """A model whose settings fit what it is, with what is to be said of that.

    Args:
        where: the place in the recipe of a key of the model's table, or of the table.

    Raises:
        TunesmithError: they do not.
    """
    assert isinstance(model.component, Model)
    if not model.component.fits:
        return model
    found = _asked(model, where, config, shapes_of(model, context), context)
    if found is None:
        return model
    if isinstance(found, str) or not all(isinstance(note, str) for note in found):
        raise wrong_type(model, "sentences or None", found)
    return replace(model, notes=(*model.notes, *found))


def adapted(
    adapter: Use, config: Config, head: Head, where: Callable[..., str], shapes: Callable[[], Shapes]
) -> Config:
    """The configuration as an adapter leaves it; where it says nothing of it, as it was.

    Args:
        head: of the model's role.
        where: the place in the recipe of a key of the adapter's table, or of the table.
        shapes: reads the shapes of the model's stored tensors, for an adapter that asks for them.

    Raises:
        TunesmithError: the adapter does not fit the model.
    """
    assert isinstance(adapter.component, Adapter)
    if not adapter.component.fits:
        return config
    asks = "shapes" in inspect.signature(adapter.component.resolve("fits")).parameters
    found = _asked(adapter, where, config, head, **({"shapes": shapes()} if asks else {}))
    return config if found is None else found


def check_checkpointing(trainer: Use, adapters: Iterable[Use], where: str) -> None:
    """Refuse activation checkpointing under an adapter that cannot be trained with it.

    Raises:
        RecipeError: naming the adapter.
    """
    for adapter in adapters:
        assert isinstance(adapter.component, Adapter)
        if getattr(trainer.settings, "activation_checkpointing", False) and not adapter.component.checkpointing:
            raise RecipeError(
                f"adapter {adapter.component.name!r} cannot be trained with activation checkpointing",
                where=where,
                fix="Set activation_checkpointing = false in [trainer], or choose another adapter.",
            )


def check_trainer(trainer: Use, configs: Mapping[str, Config], where: Callable[..., str]) -> None:
    """Refuse settings of a trainer that do not fit its models.

    Args:
        configs: by role, as the models are adapted, the first one first.

    Raises:
        TunesmithError: they do not.
    """
    assert isinstance(trainer.component, Trainer)
    if trainer.component.fits:
        _asked(trainer, where, configs)


def _told(model: Use, what: str, context: Context) -> Any:
    """What a model source tells of the model without fetching or loading anything: a mapping, or None."""
    assert isinstance(model.component, Model)
    if not getattr(model.component, what):
        return None
    with guarded(model):
        found = model.component.resolve(what)(model.settings, context)
    if found is not None and not isinstance(found, Mapping):
        raise wrong_type(model, "a mapping or None", found)
    return found


def _asked(use: Use, where: Callable[..., str], *known: Any, **more: Any) -> Any:
    try:
        with guarded(use):
            return use.component.resolve("fits")(use.settings, *known, **more)
    except TunesmithError as error:
        error.where = error.where or where(*error.setting)
        raise
