"""What became of every row: trained, truncated or dropped, each with its reason."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunesmith.errors import DataError
from tunesmith.store import write_file

LEDGER = "ledger.jsonl"
SHOWN = 5  # rows named in an error or a listing


@dataclass(frozen=True)
class Entry:
    """One row that did not pass unchanged."""

    row: str
    fate: str  # "dropped" or "truncated"
    reason: str
    detail: str = ""  # what is particular to this row; reasons are counted, details are not
    step: str = ""  # the step of [data] that dropped it, as the recipe asks; empty when it is lost
    expected: bool = False  # dropped, but no loss that a limit is held to
    tokens: int = 0  # of a truncated row: how many were cut off


@dataclass
class StepCount:
    """What one step of `[data]` did: rows in + added = rows out + dropped."""

    step: str
    rows_in: int = 0
    noted: int = 0
    changed: int = 0
    added: int = 0
    dropped: int = 0
    rows_out: int = 0
    reasons: Counter[str] = field(default_factory=Counter)  # by fate and reason, as "changed: whitespace"
    said: list[str] = field(default_factory=list)

    def describe(self) -> dict[str, Any]:
        """The counts as plain data, the most frequent reasons first."""
        return {**vars(self), "reasons": dict(self.reasons.most_common()), "said": list(self.said)}


@dataclass
class Ledger:
    """Counts rows in, and keeps the reason for each row lost or shortened.

    rows in + added = trained + held out + dropped, and truncated rows are counted among those kept. `expected` of the
    dropped ones are no losses, so that no limit is held to them: rows that say themselves that there is nothing to
    train on, as a tie does, rows that are used already, as a duplicate is, and rows that a step of `[data]` drops, as
    the recipe asks.
    """

    rows_in: int = 0
    added: int = 0
    trained: int = 0
    held_out: int = 0
    entries: list[Entry] = field(default_factory=list)
    steps: list[StepCount] = field(default_factory=list)

    def read(self, count: int = 1) -> None:
        """Count rows that came in."""
        self.rows_in += count

    def drop(self, row: str, reason: str, detail: str = "", *, expected: bool = False, step: str = "") -> None:
        """Row `row` will not be used; rows are counted by `reason`, `detail` is this row's own.

        Args:
            expected: the row is as it should be and says that there is nothing to train on, or says it again.
            step: the step of `[data]` that drops it, as the recipe asks.
        """
        self.entries.append(Entry(row, "dropped", reason, detail, step, expected or bool(step)))

    def truncate(self, row: str, reason: str, detail: str = "", *, tokens: int = 0) -> None:
        """Row `row` is used, but not whole; `tokens` of it were cut off."""
        self.entries.append(Entry(row, "truncated", reason, detail, tokens=tokens))

    def of(self, fate: str) -> list[Entry]:
        """The entries with one fate, in the order they were made."""
        return [entry for entry in self.entries if entry.fate == fate]

    @property
    def dropped(self) -> int:
        return len(self.of("dropped"))

    @property
    def expected(self) -> int:
        """How many of the dropped rows are no losses."""
        return sum(entry.expected for entry in self.of("dropped"))

    @property
    def truncated(self) -> int:
        return len(self.of("truncated"))

    def reasons(self, fate: str = "dropped") -> dict[str, int]:
        """How many rows met `fate` for each reason, most frequent first."""
        return dict(Counter(entry.reason for entry in self.of(fate)).most_common())

    def examples(self, fate: str = "dropped", *, lost: bool = False) -> list[str]:
        """One line a reason with the first rows, for messages; with `lost` those that were expected are left out."""
        found = [entry for entry in self.of(fate) if not (lost and entry.expected)]
        lines = []
        for reason, count in Counter(entry.reason for entry in found).most_common():
            entries = [entry for entry in found if entry.reason == reason][:SHOWN]
            rows = [f"{entry.row} ({entry.detail})" if entry.detail else entry.row for entry in entries]
            more = ", ..." if count > len(rows) else ""
            lines.append(f"{count} x {reason}: {', '.join(rows)}{more}")
        return lines

    def check(self, limit: float) -> None:
        """Stop when too much was lost, or nothing is left.

        Args:
            limit: the largest share of rows, 0 to 1, that may be dropped without being expected.

        Raises:
            DataError: with the reasons and the first rows.
        """
        kept = self.rows_in + self.added - self.dropped
        if self.rows_in == 0:
            raise DataError("the data has no rows", fix="Give a file that holds at least one row.")
        if kept == 0:
            raise DataError(
                f"none of the {self.rows_in} rows can be used",
                details=self.examples(),
                fix="Mend the rows, or see `tunesmith data check RECIPE`.",
            )
        lost = self.dropped - self.expected
        if lost > limit * self.rows_in:
            raise DataError(
                f"{lost} of {self.rows_in} rows ({lost / self.rows_in:.1%}) would be lost; the limit is {limit:.1%}",
                details=self.examples(lost=True),
                fix="Mend the rows, or allow more with `[run] max_lost_rows = SHARE`.",
            )

    def summary(self) -> dict[str, Any]:
        """The counts and reasons as plain data."""
        return {
            "rows_in": self.rows_in,
            "added": self.added,
            "trained": self.trained,
            "held_out": self.held_out,
            "dropped": self.dropped,
            "truncated": self.truncated,
            "truncated_tokens": sum(entry.tokens for entry in self.of("truncated")),
            "dropped_reasons": self.reasons("dropped"),
            "truncated_reasons": self.reasons("truncated"),
            "steps": [count.describe() for count in self.steps],
        }

    def save(self, path: Path) -> None:
        """Write the summary and then one JSON object an entry, a line each."""
        lines = [json.dumps({"summary": self.summary()}, ensure_ascii=False)]
        lines.extend(json.dumps(vars(entry), ensure_ascii=False) for entry in self.entries)
        write_file(path, "\n".join(lines) + "\n")
