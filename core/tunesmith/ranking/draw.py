"""Drawing answers: each participant is loaded by itself, and an evaluator lets it answer all prompts at once."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from tunesmith.adapted import ModelHandle
from tunesmith.artifact import check_base, load_artifact, load_base, read_line
from tunesmith.context import Context
from tunesmith.errors import DataError, PluginError, TunesmithError
from tunesmith.plan import Use
from tunesmith.ranking.book import Book, Participant
from tunesmith.recipe import Recipe, check_settings
from tunesmith.records import Dataset, Records
from tunesmith.registry import Registry
from tunesmith.stage import evaluate


def answering(registry: Registry, name: str, settings: Mapping[str, Any], rows: int) -> Use:
    """The evaluator `name` with these settings, made to return the answer to each of `rows` rows.

    Raises:
        MissingError: it is not installed.
        RecipeError: it does not have a setting.
    """
    entry = registry.find("evaluator", name, where=f"--use {name}")
    known = {field.name for field in fields(entry.component.settings)}
    chosen = {**settings, **({"samples": rows} if "samples" in known else {})}
    checked = check_settings(entry.component.settings, chosen, Recipe({}), ("evaluate", name))
    return Use(entry.component, entry.qualified, entry.plugin.distribution, entry.plugin.version, checked)


def draw(book: Book, registry: Registry, context: Context) -> None:
    """Let each participant answer whose answers are not here yet; the book is written after each.

    Raises:
        DataError: a model cannot answer, or no prompt is left that each of them can be asked.
        TunesmithError: a model cannot be loaded, or it fails.
    """
    for participant in book.participants:
        if book.has(participant):
            continue
        context.reporter.phase(f"answers of {participant.name}")
        try:
            _answer(participant, book, registry, context)
        except TunesmithError as error:
            error.where = error.where or participant.name
            raise
        book.write()
        gc.collect()
    if not book.asked:
        raise DataError(
            "no prompt is left that each model can be asked",
            where=str(book.path),
            details=[f"{row}: {reason}" for row, reason in list(book.left_out.items())[:5]],
            fix="Lower --max-new-tokens, or name shorter prompts with --prompts.",
        )


def _answer(participant: Participant, book: Book, registry: Registry, context: Context) -> None:
    handle = _model(participant, registry, context)
    rows = [{**question.more, "prompt": question.prompt} for question in book.asked]
    held = Records(rows, [question.row for question in book.asked])
    data = Dataset(type="prompt", train=Records([], []), validation=held)
    use = answering(registry, book.use, book.settings, len(held))
    for question in book.questions:
        question.answers[participant.name] = []
    for number in range(book.draws):
        found = evaluate((use,), handle, data, context.with_(seed=book.seed + number))
        given = {sample["row"]: sample["answer"] for sample in found["samples"]}
        for question in book.asked:
            if question.row in given:
                question.answers[participant.name].append(given[question.row])
            else:
                book.left_out[question.row] = "a model gave no answer; its prompt may be too long"
    if not any(question.answers[participant.name] for question in book.questions):
        raise PluginError(
            f"the evaluator {book.use!r} returned no answers", fix="Name one whose samples are answers: --use generate"
        )


def _model(participant: Participant, registry: Registry, context: Context) -> ModelHandle:
    """The participant's model in evaluation mode.

    Raises:
        DataError: it scores and cannot answer, or its artifact is another one by now.
    """
    artifact = Path(participant.artifact)
    line = read_line(artifact, registry)
    if line.head != "causal-lm":
        raise DataError(f"this model has a {line.head!r} head; it scores and cannot answer", where=participant.name)
    here = context.with_(folder=line.folder)
    if participant.base:
        handle = load_base(line, registry, here)
        check_base(artifact, handle)
    else:
        adapted = load_artifact(artifact, registry, here)
        handle = replace(adapted.handle, model=adapted.model)
    if hasattr(handle.model, "eval"):
        handle.model.eval()
    return handle
