"""The steps `length` and `language`: rows that are kept or not by what their text is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tunesmith import Context, RecipeError, Row
from tunesmith.errors import nearest
from tunesmith.steps import Prepare
from tunesmith_data.steps.settings import LanguageSettings, LengthSettings
from tunesmith_data.steps.texts import text_of, watched


def check_length(settings: LengthSettings, folder: Path) -> None:
    """Raises RecipeError when no length lies between the limits."""
    if settings.max is not None and settings.max < settings.min:
        raise RecipeError(f"max = {settings.max} is below min = {settings.min}", fix="Exchange them.")


def length(settings: LengthSettings, context: Context) -> Prepare:
    """Drop rows whose text is too short or too long."""

    def prepare(rows: Iterable[Row]) -> Iterator[Row]:
        for row in watched(rows, settings.columns, "length"):
            text = text_of(row.values, settings.columns)
            count = len(text) if settings.unit == "characters" else len(text.split())
            if count < settings.min:
                yield row.drop(f"under {settings.min} {settings.unit}", str(count))
            elif settings.max is not None and count > settings.max:
                yield row.drop(f"over {settings.max} {settings.unit}", str(count))
            else:
                yield row

    return prepare


#: Characters of a text that are looked at; more do not change the answer.
LOOKED_AT = 2_000


def language(settings: LanguageSettings, context: Context) -> Prepare:
    """Drop rows whose text is in another language than those to keep, as far as py3langid is sure.

    Raises:
        RecipeError: a language is not one that it knows.
    """
    identify = _identifier(settings)

    def prepare(rows: Iterable[Row]) -> Iterator[Row]:
        for row in watched(rows, settings.columns, "language"):
            text = text_of(row.values, settings.columns).strip()[:LOOKED_AT]
            if len(text) < settings.min_characters or not any(map(str.isalpha, text)):
                yield row
                continue
            found, sureness = identify(text.encode("utf-8", "replace").decode("utf-8"))
            if sureness < settings.min_confidence:
                yield row.note("language not recognised")
            elif found not in settings.keep:
                yield row.drop(f"language {found}", f"{sureness:.2f}")
            else:
                yield row

    return prepare


def _identifier(settings: LanguageSettings) -> Any:
    from py3langid import langid

    identifier = langid.LanguageIdentifier.from_modelpath(langid.MODEL_DIR / langid.MODEL_FILE, norm_probs=True)
    known = sorted(str(label) for label in identifier.labels)
    for code in (*settings.keep, *settings.among):
        if code not in known:
            near = nearest(code, known)
            raise RecipeError(
                f"the step 'language' knows no language {code!r}",
                fix=f"Did you mean {near!r}?" if near else f"There are: {', '.join(known)}.",
            )
    if settings.among:
        identifier.set_languages(sorted({*settings.keep, *settings.among}))
    return identifier.classify
