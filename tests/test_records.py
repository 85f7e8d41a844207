"""Rows on their way from a loader to a trainer."""

from __future__ import annotations

import pytest

from tunesmith import RECORD_COLUMNS, DataError, Dataset, Records
from tunesmith.spec import RecordType


def test_rows_go_with_their_names() -> None:
    records = Records([{"text": "a"}, {"text": "b"}, {"text": "c"}], ["f:1", "f:2", "f:3"])
    assert len(records) == 3
    assert list(records)[1] == ("f:2", {"text": "b"})
    taken = records.take([2, 0])
    assert (list(taken.ids), [row["text"] for row in taken.rows]) == (["f:3", "f:1"], ["c", "a"])


def test_a_row_without_a_name_is_a_mistake_of_the_loader() -> None:
    with pytest.raises(ValueError, match="2 rows but 1 row names"):
        Records([{}, {}], ["a"])


@pytest.mark.parametrize("kind", RECORD_COLUMNS)
def test_the_columns_of_every_type_are_checked(kind: RecordType) -> None:
    columns = RECORD_COLUMNS[kind]
    row = dict.fromkeys(columns, "x")
    assert len(Dataset(type=kind, train=Records([row], ["f:1"])).validation) == 0
    for column in columns:
        lacking = {key: value for key, value in row.items() if key != column}
        for train, validation in (([lacking], [row]), ([row], [lacking])):
            with pytest.raises(DataError, match=f"row f:7 lacks {column}, which a '{kind}' record must have"):
                Dataset(type=kind, train=Records(train, ["f:7"]), validation=Records(validation, ["f:7"]))


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown record type 'pairs'"):
        Dataset(type="pairs", train=Records([], []))  # type: ignore[arg-type]


def test_more_columns_are_welcome() -> None:
    assert Dataset(type="text", train=Records([{"text": "a", "topic": "b"}], ["1"])).train.rows[0]["topic"] == "b"


def test_spread_rows_reach_over_all_of_them() -> None:
    records = Records([{"text": str(i)} for i in range(10)], [str(i) for i in range(10)])
    assert list(records.spread(4).ids) == ["0", "2", "5", "7"]
    assert records.spread(None) is records
    assert records.spread(10) is records
    assert records.spread(11) is records
