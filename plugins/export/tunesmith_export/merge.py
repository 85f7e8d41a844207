"""The exporter `merge`: one plain model, compared with the tuned one before it is written."""

from __future__ import annotations

import gc
import json
import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tunesmith import Adapted, Context, DataError, ModelHandle, RecipeError, TunesmithError
from tunesmith.artifact import Line, load_artifact, read_line
from tunesmith.guard import guarded
from tunesmith.store import commit_folder
from tunesmith_export.card import front, labelled, measured, public_source, write_mark
from tunesmith_export.parity import Distance, Predictions, ScoreDistance, distance, predictions
from tunesmith_export.rows import compared_rows
from tunesmith_export.settings import MergeSettings
from tunesmith_export.target import target_of

PARITY = "parity.json"
FULL = "the adapter on the base in full precision"


@dataclass
class Parity:
    """What the merged model was compared with, and how far it is from each.

    Args:
        rows: compared on, of `origin`: held-out, training, or made-up of random tokens.
        tokens: supervised ones among them, where a language model is compared.
        losses: mean negative log-likelihood of these tokens, in nats, by model; empty for labels and scores.
        distances: of the merged model, by what it was compared with; the first decides.
        missing: why there is no comparison.
    """

    rows: int = 0
    tokens: int = 0
    origin: str = "held-out"
    losses: dict[str, float] = field(default_factory=dict)
    distances: dict[str, Distance | ScoreDistance] = field(default_factory=dict)
    missing: str = ""

    def lines(self) -> list[str]:
        """The report, a sentence a line."""
        if self.missing:
            return [f"the merged model was not compared with the tuned one: {self.missing}"]
        losses = ", ".join(f"{name} {value:.4f}" for name, value in self.losses.items())
        return [
            *(f"the merged model against {name}: {found}" for name, found in self.distances.items()),
            f"over {self.over}" + (f"; mean loss in nats: {losses}" if losses else ""),
        ]

    @property
    def over(self) -> str:
        """What was compared on, in words."""
        rows = f"{self.rows} {self.origin} rows"
        return f"{self.tokens} supervised tokens of {rows}" if self.tokens else rows


def export(artifact: Path, settings: MergeSettings, context: Context) -> Path:
    """Merge the adapter into its base and write a model folder.

    An adapter that was trained over a quantized base is merged into the base in full precision, reloaded from its
    source, and compared with the adapter on the quantized base.

    Raises:
        RecipeError: the folder is taken, the base has no full precision, or the merged model is too far off.
        DataError: nothing can be compared on, and the base was quantized.
        TunesmithError: the method cannot be merged, or a file is damaged.
        DiskError: the disk is full; what was there before is still there.
    """
    target = target_of("merge", artifact, settings, context)
    line = read_line(artifact, context.registry)
    parity, seen = Parity(), {}
    adapted = load_artifact(artifact, context.registry, context)
    quantized = adapted.handle.quantized
    compare = _comparer(adapted.handle, settings, context, parity, needed=bool(quantized))
    if line.adapter and not getattr(line.adapter.component, "merges", True):
        _merged(adapted, line)  # its own sentence, before anything is compared
    if quantized:
        seen[f"the adapter on {quantized}"] = compare(adapted.model)
        del adapted
        gc.collect()
        context.reporter.say(f"merging into the base in full precision, not into {quantized}")
        adapted = _dense(artifact, context)
        if adapted.handle.quantized:
            raise RecipeError(
                f"the base {adapted.handle.source} is itself stored as {adapted.handle.quantized}: there is no full "
                "precision to merge into",
                fix="Keep the adapter beside its base: `tunesmith export RUN --use adapter`.",
            )
    seen[FULL] = compare(adapted.model)
    model = _cast(_merged(adapted, line), settings.dtype)
    merged = compare(model)
    if merged is not None:
        losses = {name: found.loss for name, found in {**seen, "merged": merged}.items() if found}
        parity.losses = {name: loss for name, loss in losses.items() if loss is not None}
        unit = "token" if adapted.handle.head == "causal-lm" else "label"
        parity.distances = {name: distance(found, merged, unit) for name, found in seen.items() if found}
    report = _judged(parity, settings, context)
    handle = adapted.handle
    base = public_source(handle.source, line)

    def build(folder: Path) -> None:
        _save(model, handle, folder)
        (folder / PARITY).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
        write_mark(folder, "merge", artifact, base)
        (folder / "README.md").write_text(
            _card(artifact, line, base, quantized, parity, type(model).__name__), encoding="utf-8"
        )

    return commit_folder(target, build)


def _dense(artifact: Path, context: Context) -> Adapted:
    """The adapter on the base in full precision.

    Raises:
        RecipeError: the method works over a quantized base only, as LoRA does that starts by LoftQ.
    """
    try:
        return load_artifact(artifact, context.registry, context, dense=True)
    except RecipeError as error:
        raise RecipeError(
            f"the adapter cannot stand on the base in full precision: {error.what}",
            details=error.details,
            fix="Keep the adapter beside its quantized base: `tunesmith export RUN --use adapter`.",
        ) from error


def _comparer(
    handle: ModelHandle, settings: MergeSettings, context: Context, parity: Parity, *, needed: bool
) -> Callable[[Any], Predictions | None]:
    """A function that gives a model's predictions on the rows that are compared on, or None where there are none.

    Args:
        needed: that the rows are the data's: a quantized base and a full one differ elsewhere in another way.

    Raises:
        DataError: there are none, and without a comparison nothing may be written.
    """
    try:
        compared = compared_rows(handle, settings, context, needed=needed)
    except (DataError, RecipeError) as error:
        if not settings.force:
            raise DataError(
                f"the merged model cannot be compared with the tuned one: {error.what}",
                where=error.where,
                details=error.details,
                fix=f"{error.fix + ' ' if error.fix else ''}Or set force = true to write it without a comparison.",
            ) from error
        parity.missing = error.what
        return lambda model: None
    rows, head = compared.rows, handle.head  # not the handle, which would keep the quantized model beside the full one
    parity.rows, parity.origin = len(rows), compared.origin
    parity.tokens = sum(sum(row.supervised) for row in rows) if head == "causal-lm" else 0
    pad, several = handle.tokenizer.pad_token_id, bool(handle.labels and handle.labels.several)
    return lambda model: predictions(model, rows, pad, settings.batch_size, head, several)


def _merged(adapted: Adapted, line: Line) -> Any:
    with guarded(line.adapter) if line.adapter else nullcontext():
        return adapted.merge()


def _cast(model: Any, dtype: str) -> Any:
    import torch

    return model if dtype == "auto" else model.to(getattr(torch, dtype))


def _judged(parity: Parity, settings: MergeSettings, context: Context) -> dict[str, Any]:
    """The report as plain data; it is said, and kept among the stage's facts.

    Raises:
        RecipeError: the merged model is too far from the tuned one.
    """
    deciding = next(iter(parity.distances.values()), None)
    passed = deciding.within(settings) if deciding else None
    limits = {name: getattr(settings, name) for name in ("max_kl", "min_agreement", "max_difference")}
    report = {**asdict(parity), **limits, "passed": passed}
    report = _without_nan(report)
    context.facts["parity"] = report
    say = context.reporter.say if passed else context.reporter.warn
    for sentence in parity.lines():
        say(sentence)
    if deciding and not passed and not settings.force:
        raise RecipeError(
            f"the merged model is too far from {next(iter(parity.distances))}: {deciding}",
            details=[*parity.lines(), f"allowed: {deciding.limits(settings)}"],
            fix="Keep the adapter beside its base, or set force = true to write the merged model all the same.",
        )
    return report


def _without_nan(value: Any) -> Any:
    """The same data with None for what JSON cannot hold."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _save(model: Any, handle: ModelHandle, folder: Path) -> None:
    """Write config, generation config, safetensors, and the tokenizer with its chat template.

    Raises:
        TunesmithError: Transformers refuses, as it does for generation settings that contradict each other.
    """
    try:
        model.save_pretrained(str(folder))
    except ValueError as error:
        raise TunesmithError(
            f"Transformers refuses to save the merged model: {' '.join(str(error).split())}"[:500],
            fix="Mend generation_config.json of the base model.",
        ) from error
    handle.tokenizer.save_pretrained(str(folder))


def _card(artifact: Path, line: Line, base: str, quantized: str | None, parity: Parity, kind: str) -> str:
    method = line.adapter.component.name if line.adapter else "none"
    lines = front("transformers", base, [method, "merged"], f"{base}, tuned by {method}")
    lines.append(f"The adapter `{method}`, merged into `{base}`. Load it as any model of Transformers.")
    lines += labelled(line.labels, {"base_model_class": kind})
    if quantized:
        lines.append(f"It was trained over the base in `{quantized}` and merged into the base in full precision.")
    if parity.distances:
        lines += ["", "| the merged model against | how far it is from it |", "| --- | --- |"]
        lines += [f"| {name} | {found} |" for name, found in parity.distances.items()]
        if parity.losses:
            lines += ["", "| model | mean loss, nats a token |", "| --- | --- |"]
            lines += [f"| {name} | {value:.4f} |" for name, value in parity.losses.items()]
        lines += ["", f"Over {parity.over}."]
    else:
        lines += ["", *parity.lines()]
    return "\n".join([*lines, *measured(artifact)]) + "\n"
