"""The report's part about one stage: measures, answers, training, data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tunesmith.chart import bar_chart, line_chart
from tunesmith.heatmap import heatmap
from tunesmith.ledger import LEDGER, SHOWN
from tunesmith.markup import Html, element, joined, pairs, table
from tunesmith.paired import unmoved
from tunesmith.store import parse_json
from tunesmith.verdict import in_words, short

STYLES = {"better": "good", "worse": "bad"}
LETTERS = 2000  # of a source or an answer that is shown

FATES = {
    "rows read": "rows_in",
    "trained": "trained",
    "held out": "held_out",
    "dropped": "dropped",
    "truncated": "truncated",
}

PHASES = ("load data", "load model", "evaluate before", "train", "evaluate in between", "evaluate after", "commit")


def stage_section(
    place: Path,
    plan: Mapping[str, Any],
    result: Mapping[str, Any],
    metrics: Sequence[Mapping[str, Any]],
    heading: str | None,
) -> Html:
    """One stage.

    Args:
        place: the stage's folder.
        plan: the stage in the manifest.
        result: the stage in `results.json`.
        metrics: its lines of `metrics.jsonl`.
        heading: the stage's name where there are several.
    """
    parts: list[Html] = [element("h2", f"Stage {heading}")] if heading else []
    parts.append(element("p", _in_words(plan), class_="dim"))
    if result.get("reused"):
        parts.append(element("p", f"Unchanged; taken from {result['reused']}."))
    before, after = result.get("before", {}), result.get("after", {})
    parts.extend((_verdict(result.get("verdict", [])), _figures(result)))
    taken = sorted(
        result.get("seconds", {}).items(), key=lambda item: PHASES.index(item[0]) if item[0] in PHASES else 99
    )
    seconds = [(phase, f"{value:,.1f}") for phase, value in taken]
    facts = _flat(result.get("facts", {}))
    series = {name: value for name, value in facts.items() if _is_series(value)}
    histograms = _histograms(result.get("facts", {}))
    hidden = {*series, *(f"{name} · {part}" for name in histograms for part in ("edges", "counts"))}
    for name, part in (
        ("Measures", _measures(before.get("measures", {}), after.get("measures", {}))),
        ("Curves", _curves(before.get("curves", []), after.get("curves", []))),
        ("Matrices", _matrices(before.get("matrices", []), after.get("matrices", []))),
        ("Tables", _tables(after.get("tables", []))),
        ("Answers", _samples(before.get("samples", []), after.get("samples", []))),
        ("Training", _charts(metrics)),
        ("Data", joined([_ledger(result.get("ledger", {}), place), _bars(histograms)])),
        ("Time", table(("phase", "seconds"), seconds, numeric=("seconds",))),
        ("Series", joined([line_chart(name, points, "step") for name, points in series.items()])),
        ("Facts", pairs((name, _plain(value)) for name, value in facts.items() if name not in hidden)),
    ):
        if part:
            parts.extend((element("h3" if heading else "h2", name), part))
    return joined(parts)


def lines_of(path: Path) -> list[dict[str, Any]]:
    """The objects in a log, one a line; a line that a crash cut short is left out."""
    if not path.is_file():
        return []
    found = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            value = parse_json(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            found.append(value)
    return found


# --- what it was ----------------------------------------------------------------------------------
def _in_words(plan: Mapping[str, Any]) -> str:
    """Which adapter, base model and trainer the stage is made of."""
    role: Mapping[str, Any] = next(iter(plan.get("roles", [])), {})
    base = role.get("model", {}).get("settings", {}).get("source") or role.get("from")
    adapter, trainer = role.get("adapter", {}).get("name"), plan.get("trainer", {}).get("name")
    told = [adapter, f"on {base}" if base else None, f"trained with {trainer}" if trainer else None]
    return " ".join(filter(None, told))


def _verdict(moved: Sequence[Mapping[str, Any]]) -> Html:
    """What got better and what got worse, with the paired tests."""
    lines = [
        element("p", element("b", heading, class_=STYLES.get(heading)), f": {text}")
        for heading, text in in_words(moved)
    ]
    return element("div", *lines, class_="verdict") if lines else Html("")


def _figures(result: Mapping[str, Any]) -> Html:
    training, tokens = result.get("training", {}), result.get("facts", {}).get("tokens", {})
    figures: dict[str, str] = {}
    if "steps" in training:
        figures["steps"] = f"{training['steps']:,} of {training['total_steps']:,}"
    if training.get("seconds"):
        figures["training time"] = f"{training['seconds']:,.1f} s"
        figures["tokens a second"] = f"{training.get('tokens', 0) / training['seconds']:,.0f}"
    if training.get("parameters"):
        moved, total = training["trainable_parameters"], training["parameters"]
        figures["trainable parameters"] = f"{moved:,} of {total:,} ({moved / total:.2%})"
    if memory := result.get("memory"):
        of = "" if memory["of"] == "process" else f" on {memory['of']}"
        figures["peak memory"] = f"{memory['bytes'] / 2**20:,.0f} MiB{of}"
    if isinstance(tokens, Mapping) and tokens.get("tokens") and "supervised_tokens" in tokens:
        wanted, total = tokens["supervised_tokens"], tokens["tokens"]
        figures["supervised tokens"] = f"{wanted:,} of {total:,} ({wanted / total:.1%})"
    return pairs(figures.items())


def _charts(metrics: Sequence[Mapping[str, Any]]) -> Html:
    drawn = []
    for title, key in (("loss", "loss"), ("learning rate", "learning_rate")):
        points = [(line["step"], line[key]) for line in metrics if isinstance(line.get(key), (int, float))]
        drawn.append(line_chart(title, points, "step"))
    loss, rate = drawn
    return joined([loss, element("div", rate, class_="small") if rate else ""])


# --- what it came to ------------------------------------------------------------------------------
def _measures(before: Mapping[str, Any], after: Mapping[str, Any]) -> Html:
    rows = []
    for name, measure in after.items():
        earlier = before.get(name)
        unit = element("small", measure["unit"]) if measure.get("unit") else ""
        label = joined([name, unit])
        rows.append((label, _value(earlier), _value(measure), _change(earlier, measure), measure.get("n") or ""))
    heads = ("measure", "before", "after", "change", "rows")
    told = element("p", "On held-out rows, with the 95 % interval below each figure.", class_="dim")
    return joined([told, table(heads, rows, numeric=heads[1:])]) if rows else Html("")


def _curves(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> Html:
    """What evaluators drew, before and after, each with its ideal as a thin line."""
    drawn = []
    for label, curves in (("before", before), ("after", after)):
        for curve in curves:
            points, ideal = ([(x, y) for x, y in curve[key]] for key in ("points", "ideal"))
            drawn.append(line_chart(f"{curve['name']}, {label}", points, curve["x"], ideal))
    return joined(drawn)


def _matrices(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> Html:
    """The counts that evaluators gave, before and after."""
    drawn = []
    for label, matrices in (("before", before), ("after", after)):
        for found in matrices:
            axes = (found["x"], found["y"], found["columns"], found["rows"], found["values"])
            drawn.append(heatmap(f"{found['name']}, {label}", *axes))
    return joined(drawn)


def _tables(tables: Sequence[Mapping[str, Any]]) -> Html:
    """The figures that evaluators gave after training, a table each; a column of numbers is set as one."""
    drawn = []
    for found in tables:
        columns = zip(found["heads"], zip(*found["rows"], strict=True), strict=True) if found["rows"] else ()
        numeric = [head for head, values in columns if not any(isinstance(value, str) for value in values)]
        rows = [
            [_plain(value) if not isinstance(value, int) else f"{value:,}" for value in row] for row in found["rows"]
        ]
        summary = element("summary", f"{found['name']}, after")
        drawn.append(element("details", summary, table(found["heads"], rows, numeric=numeric), open="open"))
    return joined(drawn)


def _value(measure: Mapping[str, Any] | None) -> Html | str:
    """A measure with its 95 % interval below it."""
    if measure is None:
        return ""
    if measure.get("low") is None or measure.get("high") is None:
        return short(measure["value"])
    interval = element("small", f"{short(measure['low'])} to {short(measure['high'])}")
    return joined([short(measure["value"]), interval])


def _change(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> Html | str:
    if before is None:
        return ""
    if unmoved(before, after):
        return "none"
    difference = after["value"] - before["value"]
    share = f"{difference / abs(before['value']):+.0%}" if before["value"] else f"{difference:+.3g}"
    better = (difference > 0) == (after["better"] == "higher")
    word, style = ("better", "good") if better else ("worse", "bad")
    return element("span", share, element("small", word), class_=style)


def _samples(before: Sequence[Mapping[str, str]], after: Sequence[Mapping[str, str]]) -> Html:
    """Up to five rows: source, base answer, tuned answer, reference."""
    base = {sample["row"]: sample["answer"] for sample in reversed(before)}
    tuned = {sample["row"]: sample for sample in reversed(after)}
    shown = []
    for row, sample in list(reversed(tuned.items()))[:SHOWN]:
        answers = {"base": base.get(row), "tuned": sample["answer"], "reference": sample["reference"] or None}
        blocks = [
            element("div", element("h4", label), element("div", _cut(text) or "(nothing)", class_="text"), class_=label)
            for label, text in answers.items()
            if text is not None
        ]
        source = element("pre", _cut(sample["prompt"]))
        grid = element("div", *blocks, class_="answers")
        shown.append(element("div", element("h3", row), source, grid, class_="sample"))
    return joined(shown)


def _ledger(ledger: Mapping[str, Any], place: Path) -> Html:
    if not ledger:
        return Html("")
    counts = [(name, f"{ledger[key]:,}") for name, key in FATES.items() if key in ledger]
    entries = lines_of(place / LEDGER)
    rows = []
    for fate in ("dropped", "truncated"):
        for reason, count in ledger.get(f"{fate}_reasons", {}).items():
            met = [entry for entry in entries if (entry.get("fate"), entry.get("reason")) == (fate, reason)]
            named = [f"{e['row']} ({e['detail']})" if e.get("detail") else str(e["row"]) for e in met[:SHOWN]]
            rows.append((fate, reason, ", ".join(named + ["…"] * (len(met) > SHOWN)), f"{count:,}"))
    return joined([pairs(counts), table(("fate", "reason", "first rows", "rows"), rows, numeric=("rows",))])


def _histograms(values: Mapping[str, Any], prefix: str = "") -> dict[str, Mapping[str, Any]]:
    """The facts that are tables of `edges` and `counts`, named by their path."""
    found: dict[str, Mapping[str, Any]] = {}
    for key, value in values.items():
        name = f"{prefix}{key}".replace("_", " ")
        if isinstance(value, Mapping):
            found.update({name: value} if value.keys() == {"edges", "counts"} else _histograms(value, f"{name} · "))
    return found


def _bars(histograms: Mapping[str, Mapping[str, Any]]) -> Html:
    return joined(
        [
            element("div", bar_chart(name, value["edges"], value["counts"], "from"), class_="small")
            for name, value in histograms.items()
        ]
    )


# --- helpers --------------------------------------------------------------------------------------
def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The leaves of nested data, named by their path."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}".replace("_", " ")
        found.update(_flat(value, f"{name} · ") if isinstance(value, Mapping) else {name: value})
    return found


def _is_series(value: Any) -> bool:
    """Whether a fact is a list of [step, figure], which is drawn instead of printed."""
    if not isinstance(value, list) or len(value) < 2:
        return False
    return all(isinstance(p, list) and len(p) == 2 and all(type(v) in (int, float) for v in p) for p in value)


def _plain(value: Any) -> str:
    return short(value) if isinstance(value, float) else str(value)


def _cut(text: str) -> str:
    text = text.strip("\n")
    return text if len(text) <= LETTERS else f"{text[:LETTERS]}…"
