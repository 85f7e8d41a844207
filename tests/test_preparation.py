"""Rows on their way through the steps of `[data]`: what becomes of each is counted, told and kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tunesmith import (
    Context,
    DataError,
    Dataset,
    Loader,
    PluginError,
    RecipeError,
    Records,
    Registry,
    Row,
    Settings,
    Spool,
    Step,
    hookimpl,
)
from tunesmith.plan import Use, make_plan
from tunesmith.preparation import load
from tunesmith.recipe import read
from tunesmith.steps import Event


@dataclass(frozen=True, kw_only=True)
class ChosenSettings(Settings):
    """Settings of the steps below."""

    prefix: str = ""
    """What begins a text that the step means."""


def shout(settings: ChosenSettings, context: Context) -> Any:
    def take(rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            text = row.values["text"]
            yield row.change({"text": text.upper()}, "raised") if text.startswith(settings.prefix) else row

    return take


def without(settings: ChosenSettings, context: Context) -> Any:
    def take(rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            yield row.drop("unwanted", "seen") if row.values["text"].startswith(settings.prefix) else row

    return take


def twice(settings: ChosenSettings, context: Context) -> Any:
    class Twice:
        def __call__(self, rows: Iterable[Row]) -> Iterator[Row]:
            for row in rows:
                yield row
                if row.part == "train":
                    yield row.copy({"text": row.values["text"] * 2}, "doubled")

        def report(self) -> list[str]:
            return [f"seed {context.seed}"]

    return Twice()


def faulty(what: Callable[[Row], Any]) -> Callable[..., Any]:
    def factory(settings: Settings, context: Context) -> Any:
        return lambda rows: (made for row in rows if (made := what(row)) is not None)

    return factory


def step(factory: Any, *, after: bool = False, name: str = "s", **settings: Any) -> Use:
    record = Step(name=name, summary="S", factory=factory, settings=ChosenSettings, after_split=after)
    return Use(record, f"x/{name}", "tunesmith-x", "1.0", ChosenSettings(**settings))


def loader(asks: bool) -> Callable[..., Dataset]:
    """A loader of six rows, the last two held out, that has them prepared before the split, or knows of no steps."""

    def factory(settings: Settings, context: Context) -> Dataset:
        rows = [Row(f"f:{number}", {"text": text}) for number, text in enumerate("abcdef", 1)]
        context.ledger.read(len(rows))
        if asks:
            rows = list(context.prepare(rows))
        spool = Spool()
        for row in rows:
            spool.add(row.name, row.values, row.history)
        cut = len(spool) - 2
        parts = spool.records(range(cut)), spool.records(range(cut, len(spool)))
        return Dataset(type="text", train=parts[0], validation=parts[1])

    return factory


def prepared(context: Context, *steps: Use, asks: bool = True) -> Dataset:
    record = Loader(name="l", summary="L", factory=loader(asks))
    return load(Use(record, "x/l", "tunesmith-x", "1.0", Settings(), steps=steps), context)


def texts(records: Records) -> list[str]:
    return [row["text"] for _, row in records]


@pytest.mark.parametrize("asks", [True, False])
def test_steps_run_in_order_whether_the_loader_knows_of_them_or_not(asks: bool, context: Context) -> None:
    steps = step(shout, name="shout", prefix="b"), step(without, name="without", prefix="c")
    data = prepared(context, *steps, asks=asks)
    assert sorted(texts(data.train) + texts(data.validation)) == ["B", "a", "d", "e", "f"]
    ledger = context.ledger
    assert ledger.rows_in == len(data.train) + len(data.validation) + ledger.dropped == 6
    (entry,) = ledger.entries
    assert (entry.row, entry.reason, entry.detail, entry.step) == ("f:3", "without: unwanted", "seen", "without")
    counts = [(c.step, c.rows_in, c.changed, c.dropped, c.rows_out, dict(c.reasons)) for c in ledger.steps]
    assert counts == [
        ("shout", 6, 1, 0, 6, {"changed: raised": 1}),
        ("without", 6, 0, 1, 5, {"dropped: unwanted": 1}),
    ]
    assert list(data.train.history[1]) == [Event("shout", "changed", "raised")]
    assert list(data.train.take([1, 0]).history[0]) == [Event("shout", "changed", "raised")]


def test_what_a_step_drops_is_not_lost(context: Context) -> None:
    prepared(context, step(without, prefix="c"))
    context.with_(max_lost_rows=0.0).check_rows()
    context.ledger.drop("f:1", "broken")
    with pytest.raises(DataError, match="1 of 6 rows"):
        context.with_(max_lost_rows=0.0).check_rows()


def test_added_rows_have_names_of_their_own_and_count(context: Context) -> None:
    more = step(twice, after=True, name="twice")
    data = prepared(context, more, more, step(shout, name="shout", prefix="a"))
    # the step before the split comes first, wherever it stands
    assert texts(data.train)[:4] == ["A", "AA", "AA", "AAAA"]
    assert data.train.ids[:4] == ["f:1", "f:1+1", "f:1+2", "f:1+2+1"]
    assert texts(data.validation) == ["e", "f"]
    ledger = context.ledger
    assert ledger.rows_in + ledger.added == len(data.train) + len(data.validation) == 6 + 12
    assert [count.step for count in ledger.steps] == ["shout", "twice (step 1)", "twice (step 2)"]
    assert [count.said for count in ledger.steps] == [[], ["seed 42"], ["seed 43"]]
    assert list(data.train.history[1])[-1] == Event("twice (step 2)", "added", "doubled, of f:1")


def test_a_step_that_leaves_nothing_is_named(context: Context) -> None:
    with pytest.raises(DataError, match="the step 's' leaves none of its 6 rows"):
        prepared(context, step(without))


@pytest.mark.parametrize(
    ("what", "after", "says"),
    [
        (lambda row: None, False, "took 6 rows and left out 6 of them without a reason"),
        (lambda row: dict(row.values), False, "returned dict; the contract says Row"),
        (lambda row: row.change({"text": "x"}, "y"), True, "changed the held-out row f:5"),
        (lambda row: row.values["none"], False, "step 's' of tunesmith-x 1.0 failed: KeyError"),
    ],
)
def test_a_step_that_breaks_the_contract_is_named(
    what: Callable[[Row], Any], after: bool, says: str, context: Context
) -> None:
    with pytest.raises(PluginError, match=says):
        prepared(context, step(faulty(what), after=after))


def test_a_step_that_cannot_be_called_is_named(context: Context) -> None:
    with pytest.raises(PluginError, match="returned list; the contract says a callable over rows"):
        prepared(context, step(lambda settings, context: []))


# --- the recipe -------------------------------------------------------------------------------
class House:
    """A plugin with a loader, a step, and a loader that combines others."""

    @hookimpl
    def tunesmith_loaders(self) -> Iterator[Loader]:
        yield Loader(name="six", summary="S", factory=loader(True))
        yield Loader(name="both", summary="B", factory=combine, sources=True)

    @hookimpl
    def tunesmith_steps(self) -> Iterator[Step]:
        yield Step(name="shout", summary="S", factory=shout, settings=ChosenSettings)
        yield Step(name="distant", summary="D", factory=shout, requires=("no_such_library",))


def combine(settings: Settings, context: Context) -> Dataset:
    loaded = {name: source() for name, source in context.sources.items()}
    rows = [row for data in loaded.values() for row in data.train.rows]
    return Dataset(type="text", train=Records(rows, [str(number) for number in range(len(rows))]))


REST = """
[model]
source = "toy:0"
[adapter]
use = "shift"
[trainer]
use = "pull"
"""


@pytest.fixture
def plan(tmp_path: Path) -> Callable[[str], Any]:
    def make(text: str) -> Any:
        (tmp_path / "recipe.toml").write_text(text + REST)
        registry = Registry()
        registry.add(House(), name="house", distribution="tunesmith-house", version="1.0")
        registry.add_file(Path(__file__).with_name("toy_core.py"))
        return make_plan(read(tmp_path / "recipe.toml"), registry)

    return make


def test_a_recipe_lists_steps(plan: Callable[[str], Any]) -> None:
    (stage,) = plan('[data]\nuse = "six"\n[[data.steps]]\nuse = "shout"\nprefix = "a"\n').stages
    assert [(use.component.name, use.settings.prefix) for use in stage.data.steps] == [("shout", "a")]
    described = stage.describe()["data"]["steps"]
    assert [(use["kind"], use["settings"]) for use in described] == [("step", {"prefix": "a"})]
    (other,) = plan('[data]\nuse = "six"\n[[data.steps]]\nuse = "shout"\nprefix = "b"\n').stages
    assert other.fingerprint != stage.fingerprint


@pytest.mark.parametrize(
    ("data", "error", "says"),
    [
        ('[data]\nuse = "six"\n[data.steps]\nuse = "shout"\n', RecipeError, r"write \[\[data.steps\]\]"),
        ('[data]\nuse = "six"\n[[data.steps]]\nuse = "shuot"\n', Exception, "no step named 'shuot'"),
        ('[data]\nuse = "six"\n[[data.steps]]\nuse = "shout"\nprefx = "a"\n', RecipeError, r"recipe.toml:5: .*'prefx'"),
        ('[data]\nuse = "six"\n[[data.steps]]\nuse = "distant"\n', Exception, "needs no_such_library, not installed"),
        ('[data]\nuse = "six"\nsteps = ["shout"]\n', RecipeError, r'\[data.steps.0\] needs use = "NAME"'),
        ('[data]\nuse = "both"\n', RecipeError, r"\[data.sources\] names none"),
        ('[data]\nuse = "six"\n[data.sources.a]\nuse = "six"\n', RecipeError, "unknown setting 'sources'"),
    ],
)
def test_a_mistake_in_a_step_is_said_with_its_place(
    data: str, error: type[Exception], says: str, plan: Callable[[str], Any]
) -> None:
    with pytest.raises(error, match=says):
        plan(data)


def test_sources_have_steps_of_their_own(plan: Callable[[str], Any], context: Context) -> None:
    text = '[data]\nuse = "both"\n[data.sources.a]\nuse = "six"\n[[data.sources.a.steps]]\nuse = "shout"\n'
    (stage,) = plan(f'{text}[data.sources.b]\nuse = "six"\n').stages
    assert [use.component.name for use in stage.uses()][:4] == ["both", "six", "shout", "six"]
    assert texts(load(stage.data, context).train) == [*"ABCD", *"abcd"]
    assert [count.step for count in context.ledger.steps] == ["a/shout"]


# --- rows in a file ---------------------------------------------------------------------------
def test_rows_that_went_to_a_file_are_what_they_were(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"text": "plain"},
        {"text": "\ud800 and \0", "n": 3, "x": 1.5, "none": None, "deep": [{"a": [True]}]},
        {"pair": (1, 2)},  # JSON would make a list of it
        {"bytes": b"\xff"},
    ]
    events = [Event("s", "changed", "why")]
    held, filed = Spool(), Spool(tmp_path, in_memory=4)
    for number, row in enumerate(rows):
        assert held.add(f"f:{number}", row, events) == filed.add(f"f:{number}", row, events) == number
    assert (held.on_disk, filed.on_disk) == (False, True)
    for numbers in (None, [3, 0, 2]):
        one, two = held.records(numbers), filed.records(numbers)
        assert [list(item) for item in (two.rows, two.ids)] == [list(item) for item in (one.rows, one.ids)]
        assert [list(item) for item in two.history] == [list(item) for item in one.history]
    assert list(filed.records().take([1]).rows) == [rows[1]]
    assert filed.records().rows[1:3][0] == rows[1]
    assert list(tmp_path.iterdir()) == []  # the file has no name, so nothing is left behind


def test_the_ledger_tells_of_steps(context: Context, tmp_path: Path) -> None:
    prepared(context, step(without, name="without", prefix="c"))
    context.ledger.save(tmp_path / "ledger.jsonl")
    first, *others = map(json.loads, (tmp_path / "ledger.jsonl").read_text().splitlines())
    assert [(count["step"], count["dropped"]) for count in first["summary"]["steps"]] == [("without", 1)]
    assert [other["step"] for other in others] == ["without"]
