"""The loader `gsm8k`: grade-school maths as answers to imitate, and as pairs of a right and a wrong answer.

The files are those of the repository openai/grade-school-math (MIT licence; Cobbe et al. 2021, arXiv 2110.14168):
`train.jsonl` with answers that people wrote, and `model_solutions.jsonl` with four models' solutions to each question
of the test set, each marked correct or not. What every recipe can name with `plugins = ["./gsm8k.py"]`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from tunesmith import Context, Dataset, Gt, Loader, RecipeError, hookimpl
from tunesmith_data.collect import collect
from tunesmith_data.json_rows import read_jsonl
from tunesmith_data.raw import Raw
from tunesmith_data.settings import RowSettings
from tunesmith_data.split import held_out

CALCULATION = re.compile(r"<<[^<>]*>>")  # what a calculator was told: "16 - 3 = <<16-3=13>>13"


@dataclass(frozen=True, kw_only=True)
class Gsm8kSettings(RowSettings):
    """Which rows are made of the file, and which of them are held out."""

    path: Path
    """`train.jsonl` or `model_solutions.jsonl`, relative to the recipe's folder."""
    rows: Literal["answers", "pairs"]
    """answers: each question with the answer a person wrote. pairs: each correct solution of a question over each
    wrong one."""
    max_chars: Annotated[int, Gt(0)] | None = None
    """Longest question with an answer, in characters; longer ones are left out and not counted. None takes all."""


@hookimpl
def tunesmith_loaders() -> Iterator[Loader]:
    yield Loader(
        name="gsm8k",
        summary="GSM8K as answers to imitate, or as pairs of a right and a wrong answer",
        factory=load,
        settings=Gsm8kSettings,
        check=check,
        requires=("tunesmith_data",),
    )


def check(settings: Gsm8kSettings, folder: Path) -> None:
    """Refuse a file that is not there.

    Raises:
        RecipeError: saying where the data comes from.
    """
    if not (folder / settings.path).is_file():
        raise RecipeError(
            f"there is no file {settings.path}",
            fix="Put the files of openai/grade-school-math there: train.jsonl and model_solutions.jsonl.",
        )


def load(settings: Gsm8kSettings, context: Context) -> Dataset:
    """Rows of type prompt-completion or preference; the split is by question.

    Raises:
        DataError: the file cannot be read, or no row is left.
    """
    path = context.path(settings.path)
    made = (answers if settings.rows == "answers" else pairs)(read_jsonl(path))
    raws = [raw for raw in made if raw.row is None or _length(raw.row) <= (settings.max_chars or math.inf)]
    apart = held_out([raw.row["prompt"] if raw.row else raw.name for raw in raws], settings.validation, context.seed)
    train = [raw for raw, out in zip(raws, apart, strict=True) if not out]
    held = [raw for raw, out in zip(raws, apart, strict=True) if out]
    return collect(str(path), train, replace(settings, validation=0.0), context, held=held)


def answers(raws: Iterator[Raw]) -> Iterator[Raw]:
    """Each question with the answer that a person wrote."""
    for raw in raws:
        row = raw.row and {"prompt": f"{raw.row['question']}\n", "completion": plain(raw.row["answer"])}
        yield replace(raw, row=row)


def pairs(raws: Iterator[Raw]) -> Iterator[Raw]:
    """Each correct solution of a question over each wrong one; 2,429 in all."""
    for raw in raws:
        if raw.row is None:
            yield raw
            continue
        solutions = {name: value for name, value in raw.row.items() if isinstance(value, Mapping)}
        right = [name for name, value in solutions.items() if value["is_correct"]]
        wrong = [name for name, value in solutions.items() if not value["is_correct"]]
        for better in right:
            for worse in wrong:
                sides = {
                    "chosen": plain(solutions[better]["solution"]),
                    "rejected": plain(solutions[worse]["solution"]),
                }
                yield Raw(f"{raw.name}/{better}-{worse}", {"prompt": f"{raw.row['question']}\n", **sides})


def plain(answer: str) -> str:
    """An answer without its calculations, and with its result written as the models write it."""
    return CALCULATION.sub("", answer).replace("\n#### ", "\nA: ").strip()


def _length(row: Mapping[str, Any]) -> int:
    """Characters of the question with its longest answer."""
    return len(row["prompt"]) + max(len(text) for column, text in row.items() if column != "prompt")
