"""Measures of each task, out of the values of the rows."""

from __future__ import annotations

import math

import pytest

from tunesmith import Dataset, Measure, Records
from tunesmith.tasks import by_task, tasks_of

TASKS = {"a/1": "a", "a/2": "a", "b/1": "b", "b/2": "b"}
ROWS = tuple(TASKS)


def test_a_mean_is_given_for_each_task() -> None:
    measure = Measure(value=0.5, better="higher", n=4, per_row=(1.0, 1.0, 0.0, 0.0), rows=ROWS)
    found = by_task({"accuracy": measure}, TASKS, seed=1)
    assert {name: (one.value, one.n, one.rows) for name, one in found.items()} == {
        "accuracy/a": (1.0, 2, ("a/1", "a/2")),
        "accuracy/b": (0.0, 2, ("b/1", "b/2")),
    }
    assert all(one.better == "higher" for one in found.values())


def test_perplexity_is_that_of_the_tokens_of_each_task() -> None:
    nats, tokens = (1.0, 2.0, 3.0, 0.5), (10.0, 30.0, 5.0, 5.0)
    value = math.exp(sum(n * t for n, t in zip(nats, tokens, strict=True)) / sum(tokens))
    measure = Measure(value=value, better="lower", n=4, per_row=nats, weights=tokens, rows=ROWS)
    found = by_task({"perplexity": measure}, TASKS, seed=1)
    assert found["perplexity/a"].value == pytest.approx(math.exp((10 + 60) / 40))
    assert found["perplexity/b"].value == pytest.approx(math.exp((15 + 2.5) / 10))
    low, high = found["perplexity/a"].low, found["perplexity/a"].high
    assert low is not None
    assert high is not None
    assert low <= found["perplexity/a"].value <= high


@pytest.mark.parametrize(
    "measure",
    [
        Measure(value=0.5, better="higher", per_row=(1.0, 1.0, 0.0, 0.0)),
        Measure(value=12.0, better="higher", n=4),
        Measure(value=3.0, better="higher", per_row=(1.0, 1.0, 0.0, 0.0), rows=ROWS),
    ],
    ids=["rows without names", "no rows", "rows that do not give it"],
)
def test_what_is_not_of_single_rows_is_given_once(measure: Measure) -> None:
    assert by_task({"other": measure}, TASKS, seed=1) == {}


def test_tasks_are_named_by_a_column_where_there_are_several() -> None:
    rows = [{"text": "x", "task": name} for name in ("a", "b")]
    train, held = Records(rows[:1], ["t"]), Records(rows, ["h1", "h2"])
    assert tasks_of(Dataset(type="text", train=train, validation=held, task="task")) == {"h1": "a", "h2": "b"}
    assert tasks_of(Dataset(type="text", train=train, validation=held)) == {}
    assert tasks_of(Dataset(type="text", train=train, validation=train, task="task")) == {}
