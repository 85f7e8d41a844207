"""Samples and splits: repeatable, and never the same content on both sides."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tunesmith import Context, DataError, Dataset
from tunesmith_data.loaders import jsonl
from tunesmith_data.settings import JsonlSettings
from tunesmith_data.split import content_key, held_out, sample

# a busy machine is no failure
CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
SHARES = st.floats(0, 1, exclude_max=True)


def load(folder: Path, texts: list[str], seed: int = 0, **options: Any) -> tuple[Dataset, Context]:
    write(folder / "rows.jsonl", texts)
    context = Context(folder=folder, seed=seed)
    return jsonl(JsonlSettings(path=Path("rows.jsonl"), **options), context), context


def write(path: Path, texts: list[str]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")


@CALM
@given(st.lists(st.integers(0, 30)), SHARES, st.integers(0, 2**32 - 1))
def test_group_is_never_on_both_sides(groups: list[int], share: float, seed: int) -> None:
    apart = held_out(groups, share, seed)
    inside = {group for group, out in zip(groups, apart, strict=True) if not out}
    outside = {group for group, out in zip(groups, apart, strict=True) if out}
    assert not inside & outside
    if share > 0 and len(set(groups)) > 1:
        assert inside
        assert outside
    else:
        assert share > 0 or not outside
        assert inside or not groups


@CALM
@given(st.lists(st.integers(), unique=True, min_size=2, max_size=200), SHARES, st.integers(0, 9))
def test_share_is_exact_when_all_rows_differ(groups: list[int], share: float, seed: int) -> None:
    expected = min(max(1, round(share * len(groups))), len(groups) - 1) if share else 0
    assert sum(held_out(groups, share, seed)) == expected


@CALM
@given(st.permutations(list(range(40))), st.integers(0, 9))
def test_split_does_not_depend_on_the_order_of_rows(order: list[int], seed: int) -> None:
    chosen = {group for group, out in zip(order, held_out(order, 0.25, seed), strict=True) if out}
    straight = list(range(40))
    assert chosen == {group for group, out in zip(straight, held_out(straight, 0.25, seed), strict=True) if out}


@CALM
@given(st.integers(0, 50), st.integers(1, 60), st.integers(0, 99))
def test_sample_keeps_order_and_size(count: int, limit: int, seed: int) -> None:
    chosen = sample(iter(range(count)), limit, seed)
    assert len(chosen) == min(count, limit)
    assert chosen == sorted(set(chosen))
    assert chosen == sample(range(count), limit, seed)


@CALM
@given(st.dictionaries(st.text(), st.one_of(st.text(), st.integers(), st.none())))
def test_content_key_ignores_the_order_of_columns(row: dict[str, Any]) -> None:
    assert content_key(row) == content_key(dict(reversed(row.items())))
    assert content_key(row) != content_key({**row, "one more column": "x"})


def test_split_is_the_same_on_every_machine_and_differs_by_seed() -> None:
    rows = [f"row {number}" for number in range(12)]
    assert [row for row, out in zip(rows, held_out(rows, 0.25, 42), strict=True) if out] == ["row 4", "row 6", "row 10"]
    assert held_out(rows, 0.25, 42) != held_out(rows, 0.25, 43)


def test_loader_splits_and_loses_nothing(tmp_path: Path) -> None:
    texts = [f"row {number}" for number in range(50)]
    dataset, context = load(tmp_path, texts, validation=0.2)
    again, _ = load(tmp_path, texts, validation=0.2)
    other, _ = load(tmp_path, texts, validation=0.2, seed=1)
    assert (len(dataset.train), len(dataset.validation), context.ledger.rows_in) == (40, 10, 50)
    assert dataset == again
    assert dataset.validation.ids != other.validation.ids
    assert sorted([*dataset.train.ids, *dataset.validation.ids]) == sorted(f"rows.jsonl:{n + 1}" for n in range(50))


def test_kept_duplicates_stay_on_one_side(tmp_path: Path) -> None:
    dataset, _ = load(tmp_path, [f"row {number % 10}" for number in range(60)], validation=0.3, duplicates="keep")
    inside = {row["text"] for row in dataset.train.rows}
    outside = {row["text"] for row in dataset.validation.rows}
    assert len(dataset.train) + len(dataset.validation) == 60
    assert outside
    assert not inside & outside


def test_limit_takes_a_seeded_sample_and_counts_only_it(tmp_path: Path) -> None:
    texts = [f"row {number}" for number in range(100)]
    dataset, context = load(tmp_path, texts, limit=10)
    other, _ = load(tmp_path, texts, limit=10, seed=1)
    assert (len(dataset.train), context.ledger.rows_in) == (10, 10)
    assert dataset.train.ids != other.train.ids
    assert dataset.train.ids != [f"rows.jsonl:{number + 1}" for number in range(10)]


def test_shuffle_changes_the_order_and_nothing_else(tmp_path: Path) -> None:
    texts = [f"row {number}" for number in range(20)]
    plain, _ = load(tmp_path, texts)
    mixed, _ = load(tmp_path, texts, shuffle=True)
    assert plain.train.ids != mixed.train.ids
    assert dict(plain.train) == dict(mixed.train)


def test_overlap_is_dropped_from_the_validation_file(tmp_path: Path) -> None:
    write(tmp_path / "held.jsonl", ["b", "x", "x"])
    dataset, context = load(tmp_path, ["a", "b", "c"], validation_path=Path("held.jsonl"))
    assert len(dataset.train) == 3
    assert dataset.validation.ids == ["held.jsonl:2"]
    assert [(entry.row, f"{entry.reason} {entry.detail}".strip()) for entry in context.ledger.entries] == [
        ("held.jsonl:1", "overlap with the training rows row rows.jsonl:2"),
        ("held.jsonl:3", "duplicate of held.jsonl:2"),
    ]
    assert context.ledger.rows_in == 6


def test_what_stands_twice_is_said_and_is_no_loss(tmp_path: Path) -> None:
    texts = [f"row {number // 2}" for number in range(10)]
    write(tmp_path / "held.jsonl", ["row 0", "other"])
    dataset, context = load(tmp_path, texts, validation_path=Path("held.jsonl"))
    assert context.ledger.reasons() == {"duplicate": 5, "overlap with the training rows": 1}
    assert len(dataset.train) + len(dataset.validation) + context.ledger.dropped == context.ledger.rows_in == 12
    context.ledger.check(0.0)
    assert dataset.notes == (
        '5 rows repeat others and are left out; duplicates = "keep" uses a row as often as it stands there',
        "1 held-out row stands among the training rows too and would be measured as learned",
    )
    kept, context = load(tmp_path, texts, duplicates="keep")
    assert (len(kept.train), context.ledger.dropped, kept.notes) == (10, 0, ())


def test_validation_file_of_the_same_name_has_names_of_its_own(tmp_path: Path) -> None:
    write(tmp_path / "held" / "rows.jsonl", ["x"])
    dataset, _ = load(tmp_path, ["a"], validation_path=Path("held/rows.jsonl"))
    assert (dataset.train.ids, dataset.validation.ids) == (["rows.jsonl:1"], ["held/rows.jsonl:1"])


def test_validation_file_that_is_the_training_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="name the same file"):
        load(tmp_path, ["a"], validation_path=Path("rows.jsonl"))


def test_split_of_a_single_content_warns(tmp_path: Path) -> None:
    from tunesmith.context import SilentReporter

    class Reporter(SilentReporter):
        def warn(self, message: str) -> None:
            warnings.append(message)

    warnings: list[str] = []
    write(tmp_path / "rows.jsonl", ["a"])
    context = Context(folder=tmp_path, reporter=Reporter())
    dataset = jsonl(JsonlSettings(path=Path("rows.jsonl"), validation=0.5), context)
    assert (len(dataset.train), len(dataset.validation)) == (1, 0)
    assert len(warnings) == 1
    assert "nothing is held out" in warnings[0]
