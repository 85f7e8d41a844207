"""The loader `mix`: several sets as one, each with its own loader, format, split and steps."""

from __future__ import annotations

import json
import math
import random
from array import array
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tunesmith import Context, DataError, Dataset, RecipeError, Records, Spool
from tunesmith.errors import nearest
from tunesmith.spec import RecordType
from tunesmith.steps import Event
from tunesmith_data.pairs import as_chat, untrained
from tunesmith_data.settings import MixSettings


def check(settings: MixSettings, folder: Path, sources: Sequence[str] = ()) -> None:
    """Raises RecipeError when a weight names no source."""
    for name in settings.weights:
        if name not in sources:
            near = nearest(name, sources)
            raise RecipeError(
                f"`weights` names {name!r}, which is no source",
                fix=f"Did you mean {near!r}?" if near else f"Sources: {', '.join(sources)}.",
            )


def load(settings: MixSettings, context: Context) -> Dataset:
    """The training rows of all sources in the shares of their weights, in random order, and all their held-out rows.

    Rows are named `SOURCE/NAME`. Rows that the weights leave out are counted as dropped, repeated ones as added.

    Raises:
        DataError: the sources have record types that do not go together.
        RecipeError: a source shall stay plain, though another has conversations.
    """
    data = {name: source() for name, source in context.sources.items()}
    kind, chats = _type(data)
    if chats:
        _check_plain(context.sources)
    spool = Spool(context.cache)
    train, validation = array("Q"), array("Q")
    wanted = _wanted({name: len(found.train) for name, found in data.items()}, settings)
    for name, found in data.items():
        for times, number in _drawn(len(found.train), wanted[name], context.seed, name):
            label, values, history = _row(name, found.train, number, settings, kind, chats)
            if not times:
                context.ledger.drop(label, f"mix: left out by the weight of {name!r}", step="mix")
            for repeat in range(times):
                again = [Event("mix", "added", f"repeated by the weight of {name!r}, of {label}")] if repeat else []
                context.ledger.added += bool(repeat)
                train.append(spool.add(f"{label}#{repeat + 1}" if repeat else label, values, [*history, *again]))
        for number in range(len(found.validation)):
            validation.append(spool.add(*_row(name, found.validation, number, settings, kind, chats)))
    order = list(train)
    random.Random(f"{context.seed}:mix").shuffle(order)
    unused = {f"{name}/{key}": count for name, found in data.items() for key, count in found.unused.items()}
    notes = tuple(f"{name}: {sentence}" for name, found in data.items() for sentence in found.notes)
    said = ", ".join(f"{name} ({wanted[name]} rows: {found.recognised})" for name, found in data.items())
    said += ", all as conversations, as some of them are" if chats else ""
    return Dataset(
        type=kind,
        train=spool.records(order),
        validation=spool.records(validation),
        recognised=said,
        task=settings.task,
        unused=unused,
        notes=notes,
    )


def _row(
    source: str, records: Records, number: int, settings: MixSettings, kind: RecordType, chats: bool
) -> tuple[str, dict[str, Any], list[Event]]:
    values = dict(records.rows[number])
    if kind == "messages" and "messages" not in values:
        values = as_chat(values)
        values["messages"] = [*map(untrained, values.pop("prompt")), *values.pop("completion")]
    elif chats:
        values = as_chat(values)
    values[settings.task] = source
    return f"{source}/{records.ids[number]}", values, list(records.history[number] if records.history else ())


def _type(data: Mapping[str, Dataset]) -> tuple[RecordType, bool]:
    """The one record type of all sources, and whether plain prompts must become conversations for it."""
    kinds = {name: found.type for name, found in data.items()}
    if set(kinds.values()) == {"messages", "prompt-completion"}:
        return "messages", True
    if len(set(kinds.values())) > 1:
        raise DataError(
            "the sources have different record types, and a trainer takes one",
            details=[f"{name}: {kind}" for name, kind in kinds.items()],
            fix="Map their columns with `columns`, or set `format`, so that all become one type.",
        )
    parts = [part for found in data.values() for part in (found.train, found.validation)]
    listed = {isinstance(part.rows[0].get("prompt"), list) for part in parts if len(part)}
    return next(iter(kinds.values())), len(listed) > 1


def _check_plain(sources: Mapping[str, Callable[[], Dataset]]) -> None:
    """Raises RecipeError when the rows of a source shall stay plain, though those of another are conversations."""
    for name, source in sources.items():
        if getattr(getattr(source, "settings", None), "conversational", None) is False:
            raise RecipeError(
                f"conversational = false leaves the rows of source {name!r} plain, but another has conversations",
                details=["a trainer takes one kind of row"],
                fix="Leave `conversational` out there, so that all become conversations, or set it for every source.",
            )


def _wanted(sizes: Mapping[str, int], settings: MixSettings) -> dict[str, int]:
    """How many training rows each source gives."""
    if not settings.weights:
        return dict(sizes)
    weights = {name: settings.weights.get(name, 1.0) for name in sizes}
    full = [sizes[name] / weight for name, weight in weights.items() if sizes[name] and weight]
    if not full:
        return dict(sizes)
    scale = min(full) if settings.stopping_strategy == "first_exhausted" else max(full)
    return {
        name: max(1, math.floor(scale * weights[name] + 1e-9)) if size and weights[name] else 0
        for name, size in sizes.items()
    }


def _drawn(size: int, wanted: int, seed: int, name: str) -> list[tuple[int, int]]:
    """How often each row is taken: every one as often as any other, but for those drawn for the rest."""
    if not size:
        return []
    whole, rest = divmod(wanted, size)
    drawn = set(random.Random(f"{seed}:mix:{json.dumps(name)}").sample(range(size), rest))
    return [(whole + (number in drawn), number) for number in range(size)]
