"""What components say about their settings before anything is loaded, and what of it excludes itself."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tunesmith.errors import PluginError, RecipeError, TunesmithError
from tunesmith.guard import guarded
from tunesmith.locate import KeyPath
from tunesmith.plan import Use
from tunesmith.recipe import Recipe, dotted
from tunesmith.registry import Entry
from tunesmith.spec import Evaluator, Model, Role, Settings, Trainer
from tunesmith.static import dataclass_fields
from tunesmith.words import advice


def notes_of(
    entry: Entry, settings: Settings, folder: Path, known: Mapping[str, Any], where: Callable[..., str]
) -> tuple[str, ...]:
    """Call a component's own check, if it has one, and return the sentences that it gives back.

    Args:
        folder: the recipe's folder.
        known: what else is known of the recipe, by name (`device`, `evaluators`, `measures`, `sources`); each is handed
            to a check that has a parameter of that name.
        where: the place in the recipe of a key of the component's table, or of the table; for an error that names none.

    Raises:
        TunesmithError: what the check found.
        PluginError: it failed, or returned something else than sentences or None.
    """
    if not entry.component.check:
        return ()
    check = entry.component.resolve("check")
    options = {name: known[name] for name in inspect.signature(check).parameters if name in known}
    try:
        with guarded(entry):
            found = check(settings, folder, **options)
            # a generator runs here
            notes = tuple(found) if isinstance(found, Iterable) and not isinstance(found, str) else (found,)
    except TunesmithError as error:
        error.where = error.where or where(*error.setting)
        raise
    if found is None:
        return ()
    if not all(isinstance(note, str) for note in notes) or isinstance(found, str):
        raise PluginError(
            f"the check of {entry.component.kind} {entry.component.name!r} of {entry.plugin.distribution} "
            f"{entry.plugin.version} returned {found!r}; the contract says sentences, or None",
            where=where(),
            fix="This is a defect of that plugin: `tunesmith plugins check NAME` shows more.",
        )
    return notes


def measures_of(evaluators: Iterable[Use]) -> dict[str, tuple[str, ...]]:
    """The names of the measures that each evaluator may give, by its name; none for one that does not say."""
    found: dict[str, tuple[str, ...]] = {}
    for use in evaluators:
        assert isinstance(use.component, Evaluator)
        found[use.component.name] = use.component.measures
    return found


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


def check_added(model: Use, adapter: Use | None, where: str) -> None:
    """Refuse an adapter that would leave tokens as they begin which the recipe adds to the vocabulary.

    Raises:
        RecipeError: it does not train them.
    """
    added = getattr(model.settings, "add_tokens", ())
    if adapter is None or not added or getattr(adapter.component, "trains_added", False):
        return
    raise RecipeError(
        f"adapter {adapter.component.name!r} does not train the tokens that add_tokens adds to the vocabulary: they "
        "would stay as they begin, and none could be told from another",
        where=where,
        fix='Choose an adapter that trains them ("lora", "full"), or leave add_tokens out.',
    )


def check_held(model: Use | None, adapter: Use | None, head: str, where: str) -> None:
    """Refuse to train a model's own weights in float16, in which small gradients vanish.

    Args:
        model: the one that the role begins with.

    Raises:
        RecipeError: the recipe wants that.
    """
    if adapter is None or getattr(getattr(model, "settings", None), "dtype", None) != "float16":
        return
    if not getattr(adapter.component, "trains_own", ""):
        return
    with guarded(adapter):
        own = adapter.component.resolve("trains_own")(adapter.settings, head)
    if own:
        raise RecipeError(
            f"adapter {adapter.component.name!r} would train weights of the model in float16, in which small gradients "
            "vanish",
            where=where,
            fix='Set dtype = "float32" in [model], or "bfloat16" where the device has it.',
            setting=("dtype",),
        )


def check_carry(role: Role, stage: str, made: str, carry: Any, adapter: Use | None, where: str) -> None:
    """Refuse a way to go on from an earlier stage that the role cannot take.

    Args:
        made: the head of what that stage made.

    Raises:
        RecipeError: `carry` and the adapter do not fit each other, or the heads do not.
    """
    if (
        carry not in ("continue", "merge")
        or (carry == "continue" and adapter)
        or (carry == "merge" and not adapter and role.trainable)
    ):
        raise RecipeError(
            f"carry = {carry!r} does not fit: 'continue' goes on with the adapter of stage {stage!r} and takes no "
            "[adapter]; 'merge' folds it into the base and needs a new one",
            where=where,
            fix="Change `carry`, or add or remove [adapter].",
        )
    if carry == "continue" and made != role.head:
        raise RecipeError(
            f"stage {stage!r} made a model with a {made!r} head, and role {role.name!r} needs a {role.head!r} one",
            where=where,
            fix="Add [adapter]: then the earlier stage is merged into the base, and the new head stands on it."
            if role.trainable
            else f"Name a stage whose trainer makes a model with a {role.head!r} head.",
        )


def check_taken(recipe: Recipe, table: Mapping[str, Any], path: KeyPath, taken: Iterable[KeyPath]) -> None:
    """Refuse a stage's [adapter] or [quantizer] that no model of it takes: nothing would read it.

    Args:
        table: the stage, at `path`.
        taken: the places of those that a model took.

    Raises:
        RecipeError: one was not taken; it names the models that have their own.
    """
    models = [((*path, "model"), table.get("model"))]
    models += [((*path, "models", name), value) for name, value in table.get("models", {}).items()]
    for kind in ("adapter", "quantizer"):
        if kind not in table or (*path, kind) in taken:
            continue
        owners = [place for place, value in models if isinstance(value, Mapping) and kind in value]
        raise RecipeError(
            f"no model takes this [{dotted((*path, kind))}]: each that could has its own",
            where=recipe.where(*path, kind),
            details=[f"{recipe.where(*place, kind)}: the {kind} of [{dotted(place)}]" for place in owners],
            fix=f"Remove `{kind}` from the model that shall take this one, or leave this one out.",
        )


def check_arguments(trainer: Use, recipe: Recipe, path: KeyPath) -> None:
    """Refuse an argument that the library wrapped by a trainer does not have, where its class can be read.

    Args:
        path: the stage of the trainer.

    Raises:
        RecipeError: with the nearest name.
    """
    assert isinstance(trainer.component, Trainer)
    given = getattr(trainer.settings, "arguments", None)
    if not given or not trainer.component.arguments:
        return
    names = dataclass_fields(trainer.component.arguments)
    for key in given if names is not None else ():
        if key not in names:  # type: ignore[operator]
            class_name = trainer.component.arguments.rpartition(":")[2]
            raise RecipeError(
                f"{class_name} has no argument {key!r}",
                where=recipe.where(*path, "trainer", "arguments", key),
                fix=advice(key, names or (), otherwise=f"See the arguments of {class_name}."),
            )
