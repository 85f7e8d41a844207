"""What training made the model forget: the perplexity of general text, which has nothing to do with the task."""

from __future__ import annotations

import json
from pathlib import Path

from tunesmith import Context, DataError, Dataset, Evaluation, ModelHandle, Records
from tunesmith_transformers.evaluation.perplexity import perplexity_of
from tunesmith_transformers.training.settings import GeneralPerplexitySettings

TEXT = Path(__file__).with_name("general.jsonl")


def evaluate(handle: ModelHandle, data: Dataset, settings: GeneralPerplexitySettings, context: Context) -> Evaluation:
    """`general_perplexity`, over every token of the text; see `perplexity.evaluate`.

    The rows of `data` are not read.

    Raises:
        DataError: the file cannot be read, or no row of it can be measured.
    """
    records = read_texts(context.path(settings.path) if settings.path else TEXT).spread(settings.rows)
    return Evaluation(
        measures={"general_perplexity": perplexity_of(records, "text", handle, settings, context, "truncate")}
    )


def read_texts(path: Path) -> Records:
    """The rows of a JSON Lines file, each with `text`.

    Raises:
        DataError: it is missing, or a line is no such row.
    """
    rows, names = [], []
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"the general text cannot be read: {error}", where=str(path), fix="Mend `path` of general-perplexity."
        ) from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"not JSON: {error}", where=f"{path}:{number}", fix="Mend that line.") from error
        if not isinstance(row, dict) or not isinstance(row.get("text"), str):
            raise DataError("a row needs `text`", where=f"{path}:{number}", fix='Write it as {"text": "..."}.')
        rows.append({"text": row["text"]})
        names.append(f"{path.name}:{number}")
    return Records(rows, names)
