"""The step `missing`: values that are not there, column by column."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from tunesmith import Context, DataError, RecipeError, Row
from tunesmith.steps import Prepare
from tunesmith_data.steps.settings import MissingSettings


def check(settings: MissingSettings, folder: object) -> None:
    """Raises RecipeError when the step names no column, or one twice."""
    named = [*settings.drop, *settings.refuse, *settings.fill]
    if not named:
        raise RecipeError("the step 'missing' names no column", fix='Write drop = ["NAME"], refuse or fill.')
    for column in named:
        if named.count(column) > 1:
            raise RecipeError(f"the step 'missing' names {column!r} twice", fix="Drop, refuse or fill it.")


def missing(settings: MissingSettings, context: Context) -> Prepare:
    """Fill, drop or refuse rows that lack a value.

    Raises:
        DataError: a row lacks what `refuse` names.
    """
    absent = {value.strip().casefold() for value in settings.values}

    def lacks(row: Row, column: str) -> bool:
        value: Any = row.values.get(column)
        if not isinstance(value, str):
            return value is None or value in ([], {})
        bare = value.strip()
        return (settings.blank and not bare) or bare.casefold() in absent

    def prepare(rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            for column in settings.refuse:
                if lacks(row, column):
                    raise DataError(
                        f"row {row.name} has no {column!r}, which the step 'missing' refuses",
                        fix="Mend the row, or let the step drop or fill that column.",
                    )
            gone = [column for column in settings.drop if lacks(row, column)]
            filled = [column for column in settings.fill if lacks(row, column)]
            if gone:
                yield row.drop(f"no {', '.join(map(repr, gone))}")
            elif filled:
                values = {**row.values, **{column: settings.fill[column] for column in filled}}
                yield row.change(values, *(f"{column!r} filled" for column in filled))
            else:
                yield row

    return prepare
