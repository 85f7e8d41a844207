"""A row on its way through the steps of `[data]`, with what became of it.

A step is a callable that takes rows one after another and yields each of them again, with its fate:

    def prepare(rows):
        for row in rows:
            yield row.change({**row.values, "text": row.values["text"].strip()}, "trimmed")

It yields every row that it takes, dropped ones too: one that is silently left out is a fault.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

Fate = Literal["kept", "noted", "changed", "added", "dropped"]
#: What a step's factory returns.
Prepare = Callable[[Iterable["Row"]], Iterable["Row"]]


class Event(NamedTuple):
    """What one step did to a row.

    Args:
        step: the step, as the ledger calls it.
        fate: `noted`, `changed`, `added` or `dropped`.
        why: in words.
    """

    step: str
    fate: str
    why: str


@dataclass(frozen=True, slots=True)
class Row:
    """One row between a loader and a trainer.

    Args:
        name: its name in the ledger, such as `support.jsonl:17`.
        values: its columns. Before the split they are as read: of any type, or missing.
        part: `train` or `validation`, or empty while nothing is held out yet.
        history: what the steps before did to it.
        fate, why, detail: what this step did to it; the engine counts and clears them.
    """

    name: str
    values: Mapping[str, Any]
    part: Literal["", "train", "validation"] = ""
    history: tuple[Event, ...] = ()
    fate: Fate = "kept"
    why: tuple[str, ...] = ()
    detail: str = ""

    def note(self, *why: str) -> Row:
        """The row unchanged, with what was found in it; each reason is counted by itself."""
        return replace(self, fate="noted", why=why)

    def change(self, values: Mapping[str, Any], *why: str) -> Row:
        """The row with other values; each reason is counted by itself."""
        return replace(self, values=values, fate="changed", why=why)

    def drop(self, reason: str, detail: str = "") -> Row:
        """The row, not to be used; rows are counted by `reason`, `detail` is this row's own."""
        return replace(self, fate="dropped", why=(reason,), detail=detail)

    def copy(self, values: Mapping[str, Any], *why: str) -> Row:
        """A further row made of this one; the engine gives it a name of its own."""
        return replace(self, values=values, fate="added", why=why)
