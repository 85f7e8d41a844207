"""The table of docs/reference/reliability.md is the one that the battery writes, and has every fault."""

from __future__ import annotations

import re

from faults import battery, report


def told(page: str) -> list[list[str]]:
    between = page.partition(report.BEGIN)[2].partition(report.END)[0].strip().splitlines()
    assert tuple(between[:2]) == report.HEAD
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in between[2:]]


def number(cell: str) -> int:
    assert re.fullmatch(r"\d{1,3}(,\d{3})*", cell)
    return int(cell.replace(",", ""))


def test_the_page_has_a_row_for_every_fault() -> None:
    rows = told(report.PAGE.read_text(encoding="utf-8"))
    assert [row[0] for row in rows] == list(battery.FAULTS)
    for fault, what, *counts in rows:
        injected, survived, lost = map(number, counts)
        assert injected == survived + lost
        assert what.startswith(f"**{battery.FAULTS[fault]}**; ")
        assert sum(number(count) for count in re.findall(r": ([\d,]+)(?:;|$)", what)) == injected


def test_the_table_is_made_of_what_tests_recorded() -> None:
    kill = {"fault": "R1", "what": "a | b", "injected": 3, "survived": 2, "lost": ["x"]}
    records = {
        "one": {"faults": ["R1"], "tallies": [kill, {**kill, "survived": 3}], "skipped": "", "failed": True},
        "two": {"faults": ["R2", "R3"], "tallies": [], "skipped": "no strace", "failed": False},
        "three": {"faults": ["R3"], "tallies": [], "skipped": "", "failed": True},
    }
    page = report.replaced(f"above\n{report.BEGIN}\nold\n{report.END}\nbelow\n", report.table(battery.rows(records)))
    assert page.startswith("above\n")
    assert page.endswith("\nbelow\n")
    rows = {row[0]: row[1:] for row in told(page)}
    assert list(rows) == list(battery.FAULTS)
    assert rows["R1"] == ["**SIGKILL at a random time**; a \\| b: 6", "6", "5", "1"]
    assert rows["R2"] == [f"**{battery.FAULTS['R2']}**; not run: no strace", "0", "0", "0"]
    assert rows["R3"][1:] == ["0", "0", "1"]
    assert rows["R4"] == ["**disk full**; not run", "0", "0", "0"]
