"""Every row is kept, shortened or dropped with a reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith import DataError, DiskError, Ledger
from tunesmith.ledger import SHOWN


def ledger(rows: int, dropped: int = 0) -> Ledger:
    made = Ledger()
    made.read(rows)
    for number in range(dropped):
        made.drop(f"a.jsonl:{number + 1}", "empty completion")
    return made


def test_rows_are_counted_by_reason_and_not_by_detail() -> None:
    made = ledger(10)
    made.drop("a:1", "bad JSON", "column 3")
    made.drop("a:2", "bad JSON", "column 9")
    made.drop("a:3", "empty")
    made.truncate("a:4", "longer than 128 tokens")
    assert (made.dropped, made.truncated) == (3, 1)
    assert made.reasons() == {"bad JSON": 2, "empty": 1}
    assert made.reasons("truncated") == {"longer than 128 tokens": 1}
    assert made.examples() == ["2 x bad JSON: a:1 (column 3), a:2 (column 9)", "1 x empty: a:3"]


def test_only_the_first_rows_are_named() -> None:
    (line,) = ledger(20, SHOWN + 2).examples()
    assert line.startswith(f"{SHOWN + 2} x empty completion: a.jsonl:1, ")
    assert line.endswith(f"a.jsonl:{SHOWN}, ...")


@pytest.mark.parametrize(("rows", "dropped", "limit"), [(100, 5, 0.05), (20, 1, 0.05), (10, 9, 1.0), (5, 0, 0.0)])
def test_losses_within_the_limit_pass(rows: int, dropped: int, limit: float) -> None:
    ledger(rows, dropped).check(limit)


def test_losses_over_the_limit_stop() -> None:
    with pytest.raises(DataError, match=r"6 of 100 rows \(6\.0%\) would be lost; the limit is 5\.0%") as caught:
        ledger(100, 6).check(0.05)
    assert "6 x empty completion: a.jsonl:1" in str(caught.value)
    assert "max_lost_rows" in str(caught.value)


def test_what_is_expected_is_counted_and_held_to_no_limit() -> None:
    made = ledger(100, 5)
    for number in range(30):
        made.drop(f"b:{number}", "a tie", expected=True)
    made.check(0.05)
    assert (made.dropped, made.reasons()) == (35, {"a tie": 30, "empty completion": 5})
    made.drop("c:1", "empty completion")
    with pytest.raises(DataError, match=r"6 of 100 rows \(6.0%\) would be lost") as caught:
        made.check(0.05)
    assert "a tie" not in str(caught.value)  # what is no loss is not named as one


@given(st.lists(st.sampled_from(["lost", "expected", "by a step"]), max_size=30))
def test_what_is_expected_and_what_is_lost_are_all_that_is_dropped(fates: list[str]) -> None:
    made = ledger(len(fates) + 1)
    for number, fate in enumerate(fates):
        made.drop(f"a:{number}", fate, expected=fate == "expected", step="length" if fate == "by a step" else "")
    lost = fates.count("lost")
    assert (made.dropped, made.expected) == (len(fates), len(fates) - lost)
    assert sum(made.reasons().values()) == made.dropped
    assert len(made.examples(lost=True)) == bool(lost)
    made.check(lost / made.rows_in)


def test_nothing_left_stops_whatever_the_limit() -> None:
    with pytest.raises(DataError, match="none of the 3 rows can be used"):
        ledger(3, 3).check(1.0)
    with pytest.raises(DataError, match="the data has no rows"):
        Ledger().check(1.0)


@given(st.integers(1, 200), st.integers(0, 200), st.floats(0, 1))
def test_the_limit_is_the_share_that_may_be_lost(rows: int, dropped: int, limit: float) -> None:
    dropped = min(rows, dropped)
    allowed = dropped < rows and dropped <= limit * rows
    try:
        ledger(rows, dropped).check(limit)
    except DataError:
        assert not allowed
    else:
        assert allowed


def test_it_is_saved_as_lines_of_json(tmp_path: Path) -> None:
    made = ledger(3, 1)
    made.trained, made.held_out = 1, 1
    made.truncate("b:2", "too long", "surrogate \ud800, line \u2028 end", tokens=7)
    made.save(tmp_path / "ledger.jsonl")
    first, *entries = (json.loads(line) for line in (tmp_path / "ledger.jsonl").read_bytes().split(b"\n") if line)
    assert first["summary"] == made.summary()
    assert first["summary"]["rows_in"] == 3
    own = {"detail": "", "step": "", "expected": False, "tokens": 0}
    assert entries == [
        {"row": "a.jsonl:1", "fate": "dropped", "reason": "empty completion", **own},
        {
            "row": "b:2",
            "fate": "truncated",
            "reason": "too long",
            "detail": "surrogate \ud800, line \u2028 end",
            "step": "",
            "expected": False,
            "tokens": 7,
        },
    ]


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DiskError, match="No space left"):
        ledger(1).save(tmp_path / "ledger.jsonl")
