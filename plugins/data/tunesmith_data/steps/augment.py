"""The step `augment`: further training rows that say the same in other words, and keep their answers and labels."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tunesmith import Context, RecipeError, Row, Spool
from tunesmith.steps import Prepare
from tunesmith_data.steps.noise import Noise, recased, spaced, typo
from tunesmith_data.steps.settings import AugmentSettings
from tunesmith_data.steps.synonyms import synonyms_of, where_wordnet_is
from tunesmith_data.steps.texts import mapped, text_of, watched

#: Changes a text; None when it cannot.
Change = Callable[[str, random.Random], str | None]


def check(settings: AugmentSettings, folder: Path) -> None:
    """Raises RecipeError or MissingError for what is wrong before any row is read."""
    for template in settings.templates:
        if "{text}" not in template:
            raise RecipeError(
                f"the template {template!r} has no place for the instruction", fix="Write {text} where it shall stand."
            )
    if "synonyms" in settings.methods:
        if settings.synonyms is not None:
            synonyms_of(settings, folder)
        else:
            where_wordnet_is(settings.wordnet and folder / settings.wordnet.expanduser())
    if "templates" in settings.methods and not settings.templates:
        raise RecipeError("there are no templates", fix="Give `templates`, or take them out of `methods`.")


def augment(settings: AugmentSettings, context: Context) -> Prepare:
    """Add copies of training rows in which the text is changed and nothing else is.

    Each copy is drawn from the run's seed and the row's name, so that neither the order of rows nor other rows matter.
    """
    check(settings, context.folder)
    changes: dict[str, Change] = {
        "typos": lambda text, chance: spaced(text, settings.rate, chance, typo),
        "case": recased,
        "templates": lambda text, chance: chance.choice(settings.templates).replace("{text}", text),
    }
    if "synonyms" in settings.methods:
        find = synonyms_of(settings, context.folder)
        changes["synonyms"] = lambda text, chance: spaced(text, settings.rate, chance, find)

    def prepare(rows: Iterable[Row]) -> Iterator[Row]:
        if "noise" in settings.methods:
            noise, rows = _counted(rows, settings, context)
            changes["noise"] = lambda text, chance: noise.applied(text, settings.rate, chance)
        for row in watched(rows, settings.columns, "augment"):
            yield row
            chance = random.Random(f"{context.seed}:augment:{row.name}")
            if row.part == "validation" or chance.random() >= settings.share:
                continue
            seen = [row.values]
            for _ in range(settings.copies):
                made = _copy(row, chance.sample(settings.methods, len(settings.methods)), changes, chance, settings)
                if made is not None and made.values not in seen:  # the same again would only weigh the row more
                    seen.append(made.values)
                    yield made

    return prepare


def _counted(rows: Iterable[Row], settings: AugmentSettings, context: Context) -> tuple[Noise, Iterable[Row]]:
    """The words of the training rows, and the rows once more."""
    waiting, parts, noise = Spool(context.cache), [], Noise()
    for row in rows:
        waiting.add(row.name, row.values, row.history)
        parts.append(row.part)
        if row.part == "train":
            noise.count(text_of(row.values, settings.columns))
    stored = (waiting.get(number) for number in range(len(waiting)))
    return noise, (
        Row(name, values, part, history) for part, (name, values, history) in zip(parts, stored, strict=True)
    )


def _copy(
    row: Row, methods: Iterable[str], changes: Mapping[str, Change], chance: random.Random, settings: AugmentSettings
) -> Row | None:
    """The row changed by the first of the methods that can."""
    for method in methods:
        changed = changes[method]

        def apply(text: str) -> str:
            return changed(text, chance) or text  # noqa: B023

        values = mapped(row.values, settings.columns, apply) if settings.columns else _asked(row.values, apply)
        if values != row.values:
            return row.copy(values, method)
    return None


def _asked(values: Mapping[str, Any], apply: Callable[[str], str]) -> dict[str, Any]:
    """The row with what a user says changed: `prompt`, `text`, and the user's messages; answers and labels stay."""
    found = dict(values)
    for column in ("prompt", "text", "messages"):
        if column not in values:
            continue
        if isinstance(values[column], str):
            found[column] = apply(values[column])
        elif isinstance(values[column], (list, tuple)):
            found[column] = [
                {**item, "content": apply(item["content"])}
                if isinstance(item, Mapping) and item.get("role") == "user" and isinstance(item.get("content"), str)
                else item
                for item in values[column]
            ]
    return found
