"""Several adapters of one base as one: their weighted sum, kept as an artifact like any other.

What a weighted sum of adapters is, and whether there is one, each method says itself (`Adapted.combine`).
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tunesmith.adapted import SavedAdapter
from tunesmith.artifact import CARD, Line, adapt, check_base, describe, load_base, parent_digest, read_card, read_line
from tunesmith.context import Context
from tunesmith.discovery import LOCAL
from tunesmith.errors import DataError, UsageError
from tunesmith.folder import check_writable, now
from tunesmith.guard import guarded, seed_everything, wrong_type
from tunesmith.plan import Use
from tunesmith.recipe import Recipe, check_settings, plain
from tunesmith.registry import Registry
from tunesmith.store import commit_folder, verify


@dataclass(frozen=True)
class Weighted:
    """An artifact in a combination.

    Args:
        name: what a person calls it, for messages and cards.
    """

    artifact: Path
    weight: float
    name: str


def combine(
    parts: Sequence[Weighted],
    target: Path,
    registry: Registry,
    context: Context,
    *,
    how: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Path:
    """Write the weighted sum of adapters as the artifact `target`, which must not exist.

    Args:
        how: the method's own name of a way to combine; None for its default.
        options: further settings of that way.

    Raises:
        UsageError: fewer than two parts, a weight that is no number, or `target` exists.
        DiskError: `target` cannot be made.
        DataError: the parts have different bases, heads or kinds of adapter, or their base is no longer there.
        TunesmithError: a file is damaged, or the method refuses.
    """
    if len(parts) < 2:
        raise UsageError("a combination needs two adapters or more", fix="Name another run with its weight.")
    for part in parts:
        if not math.isfinite(part.weight):
            raise UsageError(f"the weight of {part.name} is {part.weight}", fix="Give a finite number.")
    if os.path.lexists(target):
        raise UsageError(f"{target} exists already", fix="Name a folder that is not there yet.")
    check_writable(target.parent, "folder", "Name a folder in another place.")
    for part in parts:
        verify(part.artifact)
    lines = [read_line(part.artifact, registry) for part in parts]
    use = _check_alike(parts, lines, context)
    handle = load_base(lines[0], registry, context)
    check_base(parts[0].artifact, handle)
    adapted = adapt(handle, use, context.with_(folder=lines[0].folder))
    how_told = f" by {how}" if how else ""
    told = " + ".join(f"{part.weight:g} x {part.name}" for part in parts)
    card = {
        "created": now(),
        "combined": {
            "how": how,
            "options": dict(options or {}),
            "parts": [{"run": part.name, "weight": part.weight, "card": _origin(part.artifact)} for part in parts],
        },
        **({"plugin_files": files} if (files := _local_files(registry)) else {}),
    }
    text = f"# Combination{how_told}\n\n`{use.component.name}` on `{adapted.handle.source}`: {told}.\n"

    def build(folder: Path) -> None:
        saved = [SavedAdapter(part.artifact, part.weight) for part in parts]
        seed_everything(context.seed)
        with guarded(use):
            changed = adapted.combine(saved, how, options or {}, folder)
        if not isinstance(changed, Mapping):
            raise wrong_type(use, "the settings that changed, from combine", changed)
        table = {**plain(use.settings), **changed}
        settings = check_settings(use.component.settings, table, Recipe({}), ("adapter",))
        line = replace(lines[0], adapter=replace(use, settings=settings))
        describe(folder, line, adapted.handle, card, text)

    return commit_folder(target, build)


def _check_alike(parts: Sequence[Weighted], lines: Sequence[Line], context: Context) -> Use:
    """The kind of adapter that all parts have.

    Raises:
        DataError: naming the first part that differs from the first of all, and how.
    """
    first = lines[0].adapter
    if first is None:
        raise DataError(f"{parts[0].name} has no adapter", fix="Name runs that trained one.")
    cards = [read_card(part.artifact) for part in parts]
    for part, line, card in zip(parts[1:], lines[1:], cards[1:], strict=True):
        kind = line.adapter.qualified if line.adapter else "none"
        for what, ours, theirs in (
            ("bases", cards[0]["base"]["digest"], card["base"]["digest"]),
            ("merged earlier stages", parent_digest(parts[0].artifact), parent_digest(part.artifact)),
            ("heads", lines[0].head, line.head),
            ("kinds of adapter", first.qualified, kind),
        ):
            if ours != theirs:
                raise DataError(
                    f"{parts[0].name} and {part.name} have different {what} and cannot be combined",
                    where=str(part.artifact / CARD),
                    details=[f"{parts[0].name}: {ours}", f"{part.name}: {theirs}"],
                    fix="Combine adapters of one kind that were trained on the same base.",
                )
        here, there = (found["base"].get("quantized") or "dense" for found in (cards[0], card))
        if here != there:
            context.reporter.warn(
                f"{part.name} was trained over {there} weights, {parts[0].name} over {here} ones, on which the "
                "combination will stand"
            )
    return first


def _local_files(registry: Registry) -> list[str]:
    """The plugins that are files: the combination is in no run's folder, whose recipe would name them."""
    return [plugin.location for plugin in registry.plugins if plugin.distribution == LOCAL and plugin.location]


def _origin(artifact: Path) -> dict[str, Any]:
    """Which run and stage an artifact is of."""
    return {key: value for key, value in read_card(artifact).items() if key in ("run", "stage", "fingerprint")}
