"""Checks of a step of data preparation, on rows as bad as files hold them."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any

from tunesmith.context import Context
from tunesmith.errors import DataError, PluginError
from tunesmith.plan import Use
from tunesmith.preparation import Preparation
from tunesmith.records import Dataset, Records
from tunesmith.registry import Entry
from tunesmith.spec import Settings, Step
from tunesmith.steps import Row
from tunesmith.testing.result import Failed

#: Rows as a loader may read them before it knows their format.
ROWS: tuple[dict[str, Any], ...] = (
    {"text": "The quick brown fox jumps over the lazy dog near the old river.", "label": "animals"},
    {"text": "Interest rates rose again, and the bank changed its terms.", "label": "money"},
    {"text": None, "label": None},
    {"text": "", "label": ""},
    {"text": " \t\r\n\u00a0", "label": "blank"},
    {"text": 7, "label": 1.5},
    {"text": "a NUL \0, a lone surrogate \ud800, a mark \u202e", "label": True},
    {"text": ["a", None, ["b"]], "label": []},
    {"text": {"content": {"text": 3}}, "label": {}},
    {},
    {"messages": [{"role": "user", "content": "Where is my card?"}, {"role": "assistant", "content": "On its way."}]},
    {"messages": [None, 3, {"role": None}, {"content": [{"type": "text", "text": "part"}]}]},
    {"prompt": "Add 2 and 3.", "completion": "5"},
    {"text": "word " * 20_000, "label": "long"},
)
#: Rows as they are after the split.
READY: tuple[dict[str, Any], ...] = tuple(
    {"text": f"Question {number}: where is card number {number}?", "label": "ab"[number % 3 == 0]}
    for number in range(12)
)


def accounts(entry: Entry, settings: Settings) -> str:
    """Every row comes back with a fate, the rows given are left as they were, and twice gives the same."""
    component = entry.component
    assert isinstance(component, Step)
    given = READY if component.after_split else ROWS
    try:
        first, second = (_taken(entry, component, settings, given) for _ in range(2))
    except DataError as error:
        return f"refuses the rows: {error.what}"
    except PluginError as error:
        raise Failed(error.what) from error
    if first != second:
        raise Failed("two runs with one seed gave different rows; draw from a generator made of `context.seed`")
    return f"{len(given)} rows in, {len(first)} out"


def _taken(entry: Entry, component: Step, settings: Settings, given: tuple[dict[str, Any], ...]) -> list[Any]:
    rows = copy.deepcopy(given)
    use = Use(component, entry.qualified, entry.plugin.distribution, entry.plugin.version, settings)
    with tempfile.TemporaryDirectory(prefix="tunesmith-check-") as folder:
        context = Context(folder=Path(folder), stage_folder=Path(folder), cache=Path(folder))
        preparation = Preparation((use,), context)
        if component.after_split:
            parts = [Records(part, [f"rows:{start + i}" for i in range(len(part))]) for start, part in
                     ((1, rows[:9]), (10, rows[9:]))]  # fmt: skip
            preparation.before(())
            data = preparation.finish(Dataset(type="text-label", train=parts[0], validation=parts[1]))
            found = [*data.train, *data.validation]
        else:
            taken = preparation.before(Row(f"rows:{number}", row) for number, row in enumerate(rows, 1))
            found = [(row.name, row.values) for row in taken]
        ledger = context.ledger
    if rows != given:
        raise Failed("it changed a row in place; make a new one and hand it to `row.change`")
    if len(rows) + ledger.added - ledger.dropped != len(found):
        raise Failed(f"{len(rows)} rows in and {len(found)} out, with {ledger.dropped} dropped, {ledger.added} added")
    names = [name for name, _ in found]
    if len(set(names)) != len(names):
        raise Failed("it yielded a row twice; use `row.copy` for a further row")
    return found
