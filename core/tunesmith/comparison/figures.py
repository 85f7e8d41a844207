"""The figures of a comparison as a person reads them, for the console, the page and the plot alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunesmith.comparison.result import Comparison, Method
from tunesmith.verdict import short as short

HEADS = ("method", "{measure}", "trained parameters", "peak memory", "training", "size", "general {general}")


def heads(comparison: Comparison) -> list[str]:
    """The columns that there are."""
    shown = HEADS if comparison.general_measure else HEADS[:-1]
    return [head.format(measure=comparison.measure, general=comparison.general_measure) for head in shown]


def cells(comparison: Comparison, method: Method) -> list[str]:
    """One line of the table; a failed method has its error behind its name and nothing else."""
    if method.status != "done":
        return [method.name, outcome(method), *[""] * (len(heads(comparison)) - 2)]
    base = method is comparison.base
    found = [
        method.name,
        measured(method.measures[comparison.measure]),
        "" if base else f"{method.trainable_parameters:,}",
        memory(method.memory),
        "" if base else f"{method.train_seconds:.1f} s",
        "" if base else size(method.size),
    ]
    if name := comparison.general_measure:
        found.append(measured(method.general[name]) if base else per_cent(method.general_change))
    return found


def outcome(method: Method) -> str:
    """What became of a method that has no figures."""
    return f"{method.status}: {method.error['what']}" if method.error else method.status


def measured(measure: Mapping[str, Any]) -> str:
    """A measure with its interval in brackets."""
    unit = f" {measure['unit']}" if measure.get("unit") else ""
    if measure.get("low") is None or measure.get("high") is None:
        return f"{short(measure['value'])}{unit}"
    return f"{short(measure['value'])}{unit} [{short(measure['low'])}, {short(measure['high'])}]"


def per_cent(change: Mapping[str, Any] | None) -> str:
    """A change with its interval in brackets."""
    if change is None:
        return ""
    if change["low"] is None:
        return f"{signed(change['value'])} %"
    return f"{signed(change['value'])} % [{signed(change['low'])}, {signed(change['high'])}]"


def memory(found: Mapping[str, Any]) -> str:
    """Peak memory, and of what unless it is the process."""
    of = "" if found["of"] == "process" else f" {found['of']}"
    return f"{found['bytes'] / 2**20:,.0f} MiB{of}"


def size(count: int) -> str:
    """Bytes on the disk."""
    if count < 1000:
        return f"{count} B"
    return f"{count / 1000:,.1f} KB" if count < 1_000_000 else f"{count / 1_000_000:,.1f} MB"


def counted(count: float) -> str:
    """A number of parameters in three digits: 921k, 2.44M, 134M."""
    for unit, scale in (("", 1), ("k", 1e3), ("M", 1e6), ("B", 1e9)):
        if count < 999.5 * scale or unit == "B":
            return f"{count / scale:.3g}{unit}"
    raise AssertionError("the last unit takes every number")


def signed(value: float) -> str:
    """A change in per cent, with its sign."""
    return f"{value:+.1f}" if abs(value) < 1000 else f"{value:+,.0f}"


def in_words(comparison: Comparison) -> str:
    """What was compared, in a sentence or two."""
    steps = ", ".join(f"{count:,}" for count in comparison.steps)
    first = comparison.base.measures[comparison.measure]
    told = f"{steps} steps each" if len(comparison.steps) == 1 else f"unequal numbers of steps: {steps}"
    told = told if comparison.steps else "no method has finished"
    parts = [f"{told}; {comparison.measure} on {first.get('n') or '?'} held-out rows ({first['better']} is better)"]
    if name := comparison.general_measure:
        measure = comparison.base.general[name]
        worse = "a rise" if measure["better"] == "lower" else "a fall"
        parts.append(
            f"general {name}: change against the base on {measure.get('n') or '?'} rows of text from elsewhere, "
            f"where {worse} is a loss"
        )
    return "; ".join(parts) + ". In brackets: 95 % intervals, of the change over paired rows."
