"""The figures of a comparison: changes with intervals, the table, and the plot."""

from __future__ import annotations

import math
import random
import re
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tunesmith.comparison.axis import linear_axis, log_axis
from tunesmith.comparison.change import change
from tunesmith.comparison.figures import cells, counted, heads, in_words, per_cent, size
from tunesmith.comparison.page import markdown
from tunesmith.comparison.plot import draw
from tunesmith.comparison.result import Comparison, Method, size_of

SVG = "{http://www.w3.org/2000/svg}"


def perplexity(rows: list[float], weights: list[float]) -> dict[str, Any]:
    mean = sum(w * r for w, r in zip(weights, rows, strict=True)) / sum(weights)
    return {"value": math.exp(mean), "better": "lower", "per_row": rows, "weights": weights}


# --- the change against the base --------------------------------------------------------------
def test_rows_that_all_move_alike_leave_no_doubt() -> None:
    weights = [3.0, 8.0, 5.0]
    found = change(perplexity([2.0, 3.0, 4.0], weights), perplexity([2.1, 3.1, 4.1], weights), 0)
    assert found == {key: pytest.approx(100 * math.expm1(0.1)) for key in ("value", "low", "high")}


def test_the_interval_is_that_of_pairs_not_of_rows() -> None:
    """Rows differ much more than what happens to each: the paired interval is narrow, and it holds the truth."""
    draw_ = random.Random(3)
    rows = [draw_.gauss(3, 1) for _ in range(60)]
    weights = [float(draw_.randint(5, 50)) for _ in rows]
    moved = [row + 0.05 + draw_.gauss(0, 0.02) for row in rows]
    found = change(perplexity(rows, weights), perplexity(moved, weights), 0)
    assert found is not None
    low, value, high = (found[key] for key in ("low", "value", "high"))
    assert low is not None
    assert value is not None
    assert high is not None
    assert 4.0 < low < value < high < 6.5
    assert low < 100 * math.expm1(0.05) < high
    assert found == change(perplexity(rows, weights), perplexity(moved, weights), 0)


def test_means_are_compared_as_means() -> None:
    base = {"value": 0.5, "per_row": [0.0, 1.0, 1.0, 0.0], "weights": []}
    tuned = {"value": 0.25, "per_row": [0.0, 0.5, 0.5, 0.0], "weights": []}
    found = change(base, tuned, 0)
    assert found == {key: pytest.approx(-50) for key in ("value", "low", "high")}


@pytest.mark.parametrize(
    ("base", "tuned"),
    [
        ({"value": 4.0}, {"value": 5.0}),
        ({"value": 4.0, "per_row": [1.0, 2.0]}, {"value": 5.0, "per_row": [1.0, 2.0]}),  # rows that do not give it
        ({"value": 2.0, "per_row": [1.0, 3.0]}, {"value": 2.5, "per_row": [2.5]}),
        (perplexity([1.0, 2.0], [1.0, 1.0]), perplexity([1.0, 2.0], [1.0, 2.0])),  # not the same rows
    ],
)
def test_where_rows_do_not_pair_there_is_no_interval(base: dict[str, Any], tuned: dict[str, Any]) -> None:
    value = 100 * (tuned["value"] / base["value"] - 1)
    assert change(base, tuned, 0) == {"value": pytest.approx(value), "low": None, "high": None}


@pytest.mark.parametrize(("base", "tuned"), [(0.0, 1.0), (math.inf, 1.0), (1.0, math.nan)])
def test_there_is_no_change_of_nothing(base: float, tuned: float) -> None:
    assert change({"value": base}, {"value": tuned}, 0) is None


# --- the table --------------------------------------------------------------------------------
def method(name: str, value: float, parameters: int = 1000, moved: float = 1.0, **more: Any) -> Method:
    measure = {"value": value, "low": value * 0.9, "high": value * 1.1, "better": "lower", "n": 48, "unit": ""}
    return Method(
        name=name,
        adapter=name,
        measures={"perplexity": measure},
        general={"perplexity": measure},
        general_change={"value": moved, "low": moved - 1, "high": moved + 1},
        trainable_parameters=parameters,
        **{
            "memory": {"bytes": 5 * 2**30, "of": "process"},
            "size": 19_600_000,
            "train_seconds": 61.25,
            "steps": 24,
            **more,
        },
    )


def comparison(*methods: Method, general: bool = True, folder: Path = Path("here")) -> Comparison:
    base = method("base", 50.0, 0, 0.0, steps=0)
    if not general:
        base = Method(**{**vars(base), "general": {}, "general_change": None})
    environment = {"platform": "Linux", "cpus": 2, "python": "3.11", "libraries": {"torch": "2.13"}}
    return Comparison(recipe="r.toml", folder=folder, created="", environment=environment, base=base, methods=methods)


def many() -> list[Method]:
    return [method(f"method {number}", 20 + number / 2, 10 ** (3 + number % 6), number / 4 - 2) for number in range(20)]


FAILED = Method(name="broken <b>", status="failed", adapter="x", error={"what": "it | fell", "exit_code": 71})


def test_the_table_has_a_line_a_method_best_first() -> None:
    found = comparison(method("b", 30.0), FAILED, method("a", 20.0, moved=-2.5), method("gpu", 60.0, memory={
        "bytes": 2**20, "of": "cuda:0"}))  # fmt: skip
    assert [line[0] for line in (cells(found, one) for one in found.done)] == ["a", "b", "base", "gpu"]
    assert heads(found)[-1] == "general perplexity"
    assert cells(found, found.done[0]) == [
        "a", "20 [18, 22]", "1,000", "5,120 MiB", "61.2 s", "19.6 MB", "-2.5 % [-3.5, -1.5]",
    ]  # fmt: skip
    assert cells(found, found.done[3])[3] == "1 MiB cuda:0"
    assert cells(found, found.base)[1:] == ["50 [45, 55]", "", "5,120 MiB", "", "", "50 [45, 55]"]
    text = markdown(found)
    assert re.findall(r"^\| (\S+) ", text, re.MULTILINE) == ["method", "---", "a", "b", "base", "gpu", "broken"]
    assert r"| broken \<b\> | failed: it \| fell |" in text
    assert "24 steps each; perplexity on 48 held-out rows (lower is better)" in text
    assert "(comparison.svg)" in text


def test_measures_that_shall_be_high_rank_the_other_way() -> None:
    found = comparison(method("b", 30.0), method("a", 60.0))
    for one in (found.base, *found.methods):
        one.measures["perplexity"]["better"] = "higher"  # type: ignore[index]
    assert [one.name for one in found.done] == ["a", "base", "b"]


def test_an_unequal_budget_is_said() -> None:
    assert "unequal numbers of steps: 9, 24" in in_words(comparison(method("a", 1.0), method("b", 2.0, steps=9)))
    assert "no method has finished" in in_words(comparison(FAILED))


def test_figures_are_short() -> None:
    assert [counted(n) for n in (57, 921_600, 2_442_240, 134_515_008, 7e9)] == ["57", "922k", "2.44M", "135M", "7B"]
    assert [counted(n) for n in (999.6, 999_499, 999_500)] == ["1k", "999k", "1M"]
    assert [size(n) for n in (999, 45_300, 19_600_000)] == ["999 B", "45.3 KB", "19.6 MB"]
    assert per_cent({"value": 12345.6, "low": None, "high": None}) == "+12,346 %"


def test_the_size_is_of_what_the_adapter_saved(tmp_path: Path) -> None:
    for name in ("README.md", "tunesmith.json", "digests.json", "adapter.safetensors", "deep/more.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("12345")
    assert size_of(tmp_path) == 10


# --- the plot ---------------------------------------------------------------------------------
def marks(svg: str, kind: str = "") -> list[ElementTree.Element]:
    root = ElementTree.fromstring(svg)
    return [one for one in root.iter() if one.get("class", "").startswith("mark") and kind in one.tag]


def test_every_method_has_a_mark_in_every_panel() -> None:
    methods = many()
    svg = draw(comparison(*methods, FAILED))
    assert len(marks(svg)) == 6 * len(methods) + 3  # the base trains nothing, takes no time, and is not kept
    assert svg.count("failed: it | fell") == 1
    assert "<b>" not in svg
    said = [one.text for one in ElementTree.fromstring(svg).iter(f"{SVG}text")]
    assert {one.name for one in methods} <= set(said)
    assert {"20", "1k", "-2.0"} <= set(said)


def test_marks_and_labels_stand_apart_and_within_the_page() -> None:
    root = ElementTree.fromstring(draw(comparison(*many())))
    width, height = (float(root.get(key, "")) for key in ("width", "height"))
    texts = [(float(one.get("x", "")), float(one.get("y", "")), one) for one in root.iter(f"{SVG}text")]
    assert all(0 <= x < width and 0 < y < height for x, y, _ in texts)
    rows: dict[tuple[float, str | None], list[float]] = {}
    for x, y, one in texts:
        rows.setdefault((x, one.get("text-anchor")), []).append(y)
    names = sorted(next(ys for (_, anchor), ys in rows.items() if anchor == "end"))
    assert min(b - a for a, b in pairwise(names)) >= 20
    ticks = sorted(x for x, y, one in texts if one.get("class") == "tick")
    assert min(b - a for a, b in pairwise(ticks)) >= 20


def test_the_best_stands_highest_and_better_values_further_left() -> None:
    circles = marks(draw(comparison(method("worse", 40.0), method("best", 20.0))), "circle")
    quality = sorted(circles, key=lambda one: (float(one.get("cx", "")), float(one.get("cy", ""))))[:3]
    assert [float(one.get("cy", "")) for one in quality] == sorted(float(one.get("cy", "")) for one in quality)


def test_one_that_went_astray_does_not_press_the_others_together() -> None:
    calm, wild = comparison(*many()), comparison(*many(), method("wild", 9e5, moved=4e4))
    assert len(marks(draw(wild), "polyline")) == 2
    assert "900,000" in draw(wild)
    first, second = (
        [one.get("cx") for one in marks(draw(found), "circle")][:20] for found in (calm, wild)
    )  # quality of the same methods
    assert first == second


@pytest.mark.parametrize(("value", "count"), [(math.inf, 1), (math.nan, 0)])
def test_what_is_not_finite_stands_last(value: float, count: int) -> None:
    lost = method("lost", 30.0)
    lost.measures["perplexity"].update(value=value, low=None, high=None)  # type: ignore[attr-defined]
    found = comparison(lost, method("a", 20.0))
    assert [one.name for one in found.done] == ["a", "base", "lost"]
    svg = draw(found)
    assert len(marks(svg, "polyline")) == count
    assert "nan," not in svg
    assert "| lost |" in markdown(found)


def test_without_general_text_there_is_no_panel_of_it() -> None:
    one = Method(**{**vars(method("a", 20.0)), "general": {}, "general_change": None})
    svg = draw(comparison(one, general=False))
    assert "change in %" not in svg
    assert len(marks(svg)) == 5 + 2


def test_axes_hold_what_they_show() -> None:
    assert linear_axis({}, "base", 0, 100) is None
    assert log_axis({}, 0, 100) is None
    axis = log_axis({"a": {"value": 57_600}, "b": {"value": 134_515_008}}, 0, 200)
    assert axis is not None
    assert (axis.low, axis.high) == (1e4, 1e9)
    assert axis.place(1e4) == 0
    assert axis.place(1e9) == 200
    assert axis.place(1e6) == pytest.approx(80)
    same = linear_axis({"base": {"value": 3.0}, "b": {"value": 3.0}}, "base", 10, 100)
    assert same is not None
    assert 10 <= same.place(3.0) <= 110
