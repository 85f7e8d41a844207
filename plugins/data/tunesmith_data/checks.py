"""What can be known about settings and files when a plan is made. Nothing heavy is imported."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tunesmith import DataError, RecipeError
from tunesmith.errors import nearest
from tunesmith_data import files, json_rows, messages, plain, readers, turns
from tunesmith_data.formats import FORMATS
from tunesmith_data.settings import (
    ConllSettings,
    CsvSettings,
    FileSettings,
    HubSettings,
    JsonlSettings,
    JsonSettings,
    ParquetSettings,
    RowSettings,
    TextSettings,
)

#: The columns that `columns` may name on its left side.
CANONICAL = tuple(dict.fromkeys(column for form in FORMATS.values() for column in (*form.own, *form.reads)))

#: The keys of a message that `message_keys` may name on its left side.
MESSAGE_KEYS = (*messages.READ, *turns.KEYS)


def jsonl(settings: JsonlSettings, folder: Path) -> None:
    """Raises DataError or RecipeError for what is wrong before any row is read."""
    _files(settings, folder, files.examine_text)


def json(settings: JsonSettings, folder: Path) -> None:
    """Raises DataError or RecipeError for what is wrong before any row is read."""
    _files(settings, folder, _one_or_several(json_rows.JSON_ENDINGS))


def csv(settings: CsvSettings, folder: Path) -> None:
    """Raises DataError or RecipeError for what is wrong before any row is read."""
    if settings.delimiter in ('"', "\n", "\r"):
        raise RecipeError(f"delimiter = {settings.delimiter!r} cannot separate fields")
    _files(settings, folder, files.examine_text)
    for value in (settings.path, settings.validation_path):
        if value is not None:
            _check_table(folder / value.expanduser(), settings)


def text(settings: TextSettings, folder: Path) -> None:
    """Raises DataError or RecipeError for what is wrong before any row is read."""
    _files(settings, folder, _one_or_several(plain.TEXT_ENDINGS))


def conll(settings: ConllSettings, folder: Path) -> None:
    """Raises DataError or RecipeError for what is wrong before a sentence is read."""
    if settings.word == settings.tag:
        raise RecipeError(f"`word` and `tag` both are column {settings.word}", fix="Name two columns.")
    _files(settings, folder, files.examine_text)
    for value in (settings.path, settings.validation_path):
        if value is not None:
            path = folder / value.expanduser()
            first = plain.first_columns(path, settings.separator, settings.comment)
            if first is not None:
                plain.check_columns(path, *first, settings.word, settings.tag)


def parquet(settings: ParquetSettings, folder: Path) -> None:
    """Raises DataError or RecipeError for what is wrong before any row is read."""
    _files(settings, folder, files.examine_parquet)


def hub(settings: HubSettings, folder: Path) -> None:
    """Raises RecipeError for what is wrong before anything is fetched."""
    _columns(settings)
    _sides(settings.validation, settings.validation_split, "validation_split")


def _check_table(path: Path, settings: CsvSettings) -> None:
    """Refuse text that is no table: a file whose name is that of text and whose first line names no column.

    Raises:
        DataError: with the loader that reads it.
    """
    use = json_rows.use_of(path)
    if use:
        raise DataError("this is JSON, not a table", where=f"{path}:1", fix=f'Write use = "{use}".')
    if not path.name.lower().endswith(plain.TEXT_ENDINGS):
        return
    header = readers.read_header(path, settings.delimiter)
    if header and not {*CANONICAL, *settings.columns.values(), *settings.keep} & set(header):
        raise DataError(
            f"the first line names no column that a format has: {', '.join(map(repr, header[:10]))}",
            where=f"{path}:1",
            fix='Plain text is read by use = "text", a row a line, a paragraph or a file, and words with tags by '
            'use = "conll". A table names its columns in the first line; `columns` maps them.',
        )


def _one_or_several(endings: tuple[str, ...]) -> Callable[[Path, str], None]:
    return lambda path, option: files.examine_several(path, option, endings)


def _files(
    settings: FileSettings | TextSettings | ConllSettings, folder: Path, examine: Callable[[Path, str], None]
) -> None:
    if isinstance(settings, FileSettings):
        _columns(settings)
    _sides(settings.validation, settings.validation_path, "validation_path")
    for option, value in (("path", settings.path), ("validation_path", settings.validation_path)):
        if value is not None:
            examine(folder / value.expanduser(), option)


def _sides(share: float, own: object, option: str) -> None:
    if own is not None and share:
        raise RecipeError(f"`validation` and `{option}` exclude each other", fix="Leave one of them out.")


def _columns(settings: RowSettings) -> None:
    if settings.separator is not None and (settings.conversational or settings.system is not None):
        raise RecipeError(
            "`separator` stands between plain prompts and answers, and these become conversations",
            fix=f"Leave it out, or leave out `{'conversational' if settings.conversational else 'system'}`.",
        )
    if settings.conversational is False and settings.system is not None:
        raise RecipeError(
            "`system` makes every row a conversation, and conversational = false leaves plain ones as they are",
            fix="Leave one of them out.",
        )
    for canonical in settings.columns:
        if canonical in MESSAGE_KEYS and canonical not in (*CANONICAL, *settings.keep):
            raise RecipeError(
                f"`columns` names {canonical!r}, which is a key of a message",
                fix=f"Write message_keys = {{{canonical} = {settings.columns[canonical]!r}}}.",
            )
        _known("columns", canonical, (*CANONICAL, *settings.keep), "column")
    for canonical in settings.message_keys:
        _known("message_keys", canonical, MESSAGE_KEYS, "key of a message")
    for option in ("columns", "message_keys"):
        mapping: Mapping[str, str] = getattr(settings, option)
        twice = [name for name, count in Counter(mapping.values()).items() if count > 1]
        if twice:
            raise RecipeError(f"`{option}` gives {twice[0]!r} two names", fix="Leave one of them out.")
    _ignored(settings)


def _known(option: str, name: str, known: Sequence[str], what: str) -> None:
    if name not in known:
        near = nearest(name, known)
        raise RecipeError(
            f"`{option}` names the unknown {what} {name!r} on its left side",
            fix=f"Did you mean {near!r}?" if near else f"There are: {', '.join(known)}.",
        )


def _ignored(settings: RowSettings) -> None:
    """Raises RecipeError when `ignore` names what another setting wants to read."""
    wanted = {
        "columns": tuple(settings.columns),
        "message_keys": tuple(settings.message_keys),
        "keep": settings.keep,
        "group": (settings.group,),
    }
    for name in settings.ignore:
        for option, names in wanted.items():
            if name in names:
                raise RecipeError(f"`ignore` leaves out {name!r}, which `{option}` names", fix="Leave one of them out.")
