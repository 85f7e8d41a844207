"""Rewards by Python functions that a recipe names."""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from tunesmith import Context, NumericalError, PluginError, RecipeError
from tunesmith.errors import message_of
from tunesmith_transformers.online.check import is_file, split_reference
from tunesmith_transformers.online.prompts import Prompt

#: `(prompts, completions, rows) -> list[float]`: prompts as the data has them, completions as text.
Function = Callable[[list[Any], list[str], list[Mapping[str, Any]]], Sequence[float]]


class FunctionReward:
    """Scores answers with a Python function.

    Args:
        reference: what the recipe calls it, for messages.
    """

    def __init__(self, reference: str, function: Function) -> None:
        self.reference = reference
        self.function = function

    def __call__(
        self, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]], texts: Sequence[str]
    ) -> torch.Tensor:
        """The score of each answer, (B,).

        Raises:
            PluginError: the function raises, or does not give one number an answer.
            NumericalError: a score is NaN or infinite.
        """
        try:
            found = self._call(prompts, texts)
            values = [float(value) for value in found]
        except Exception as error:
            raise self._failed(prompts, texts, error) from error
        if len(values) != len(prompts):
            raise PluginError(
                f"the reward function {self.reference} gave {len(values)} numbers for {len(prompts)} answers",
                where=prompts[0].row,
                details=[f"the first of them is the answer to {prompts[0].row}, the last that to {prompts[-1].row}"],
                fix="Return one number for each completion, in their order.",
            )
        for prompt, value in zip(prompts, values, strict=True):
            if not math.isfinite(value):
                raise NumericalError(
                    f"the reward function {self.reference} gave {value} for the answer to row {prompt.row}",
                    where=prompt.row,
                    fix="Return a finite number for every answer, also for an empty one.",
                )
        return torch.tensor(values, dtype=torch.float32)

    def _call(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> Sequence[float]:
        return self.function([prompt.given for prompt in prompts], list(texts), [prompt.source for prompt in prompts])

    def _failed(self, prompts: Sequence[Prompt], texts: Sequence[str], error: Exception) -> PluginError:
        """Names the row: the first whose answer alone makes the function fail too."""
        row = f"{prompts[0].row} to {prompts[-1].row}"
        for prompt, text in zip(prompts, texts, strict=True):
            try:
                [float(value) for value in self._call([prompt], [text])]
            except Exception:
                row = prompt.row
                break
        message = message_of(error).partition("\n")[0][:200]
        return PluginError(
            f"the reward function {self.reference} failed on row {row}: {type(error).__name__}: {message}",
            where=row,
            fix="Mend the function; `tunesmith resume` goes on from the last step.",
        )


def load_function(reference: str, context: Context) -> Function:
    """Import the function that `reward` names.

    Raises:
        RecipeError: it is not there, or its module cannot be imported.
    """
    named, name = split_reference(reference)
    try:
        module = _load_file(context.path(named)) if is_file(named) else importlib.import_module(named)
    except (Exception, SystemExit) as error:
        raise RecipeError(
            f"reward = {reference!r} cannot be imported: {type(error).__name__}: {message_of(error)}",
            fix="Mend the module, or `reward` in [trainer].",
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        raise RecipeError(f"reward = {reference!r}: there is no function {name!r}", fix="Mend `reward` in [trainer].")
    return function


def _load_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"tunesmith_reward_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"no Python module at {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
