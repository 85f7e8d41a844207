"""`python tests/faults/report.py`: write the battery's own counts into the table of docs/reference/reliability.md."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from faults import battery

PAGE = battery.ROOT / "docs" / "reference" / "reliability.md"
BEGIN, END = "<!-- begin: written by `make faults` -->", "<!-- end -->"
HEAD = (
    "| fault | what was injected, and how often | injected | survived | lost |",
    "| --- | --- | ---: | ---: | ---: |",
)


def table(rows: Sequence[battery.Row]) -> str:
    """The table: a line for every fault of the list, in its order."""
    told = {row.fault: row for row in rows}
    return "\n".join((*HEAD, *(line(told.get(fault) or battery.Row(fault)) for fault in battery.FAULTS)))


def line(row: battery.Row) -> str:
    """One fault as a line of the table."""
    whats = [f"{what}: {count}" for what, count in row.whats.items()]
    whats += [f"not run: {reason}" for reason in dict.fromkeys(row.skipped)]
    what = f"**{battery.FAULTS[row.fault]}**; {'; '.join(whats) or 'not run'}".replace("|", "\\|")
    return f"| {row.fault} | {what} | {row.injected:,} | {row.survived:,} | {row.lost:,} |"


def replaced(page: str, text: str) -> str:
    """The page with the text between its markers exchanged."""
    assert page.count(BEGIN) == page.count(END) == 1, f"{PAGE.name} must hold {BEGIN} and {END} once each"
    return re.sub(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: f"{BEGIN}\n{text}\n{END}", page, flags=re.DOTALL)


def main() -> int:
    records = battery.read_records()
    if not records:
        print(f"{battery.RECORDS} holds nothing: run `make faults`", file=sys.stderr)
        return 1
    rows = battery.rows(records)
    PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8"), table(rows)), encoding="utf-8")
    for row in rows:
        print(row.line())
    return int(any(row.lost for row in rows))


if __name__ == "__main__":
    sys.exit(main())
