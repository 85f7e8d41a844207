"""What can be known about settings and files when a plan is made. Nothing heavy is imported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tunesmith import RecipeError
from tunesmith.errors import nearest
from tunesmith_data import files
from tunesmith_data.formats import FORMATS
from tunesmith_data.settings import (
    CsvSettings,
    FileSettings,
    HubSettings,
    JsonlSettings,
    JsonSettings,
    ParquetSettings,
    RowSettings,
)

#: The columns that `columns` may name on its left side.
CANONICAL = tuple(dict.fromkeys(column for form in FORMATS.values() for column in (*form.own, *form.reads)))


def jsonl(settings: JsonlSettings, folder: Path) -> None:
    """Raises DataError or RecipeError for what is wrong before any row is read."""
    _files(settings, folder, files.examine_text)


def json(settings: JsonSettings, folder: Path) -> None:
    """Raises DataError or RecipeError for what is wrong before any row is read."""
    _files(settings, folder, files.examine_text)


def csv(settings: CsvSettings, folder: Path) -> None:
    """Raises DataError or RecipeError for what is wrong before any row is read."""
    if settings.delimiter in ('"', "\n", "\r"):
        raise RecipeError(f"delimiter = {settings.delimiter!r} cannot separate fields")
    _files(settings, folder, files.examine_text)


def parquet(settings: ParquetSettings, folder: Path) -> None:
    """Raises DataError or RecipeError for what is wrong before any row is read."""
    _files(settings, folder, files.examine_parquet)


def hub(settings: HubSettings, folder: Path) -> None:
    """Raises RecipeError for what is wrong before anything is fetched."""
    _rows(settings, settings.validation_split, "validation_split")


def _files(settings: FileSettings, folder: Path, examine: Callable[[Path, str], None]) -> None:
    _rows(settings, settings.validation_path, "validation_path")
    for option, value in (("path", settings.path), ("validation_path", settings.validation_path)):
        if value is not None:
            examine(folder / value.expanduser(), option)


def _rows(settings: RowSettings, own: object, option: str) -> None:
    if own is not None and settings.validation:
        raise RecipeError(f"`validation` and `{option}` exclude each other", fix="Leave one of them out.")
    for canonical in settings.columns:
        if canonical not in CANONICAL and canonical not in settings.keep:
            near = nearest(canonical, CANONICAL)
            raise RecipeError(
                f"`columns` names the unknown column {canonical!r} on its left side",
                fix=f"Did you mean {near!r}?" if near else f"There are: {', '.join(CANONICAL)}.",
            )
