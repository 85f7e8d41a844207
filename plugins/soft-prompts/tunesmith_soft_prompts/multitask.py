"""Multitask prompt tuning: one prompt that all tasks share, times a low-rank matrix of each task's own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from peft import MultitaskPromptTuningConfig

from tunesmith import Column, Context, DataError, Dataset, ModelHandle, RecipeError
from tunesmith_soft_prompts.adapters import say
from tunesmith_soft_prompts.formulas import embedding_size
from tunesmith_soft_prompts.handle import SoftPrompt
from tunesmith_soft_prompts.initial import vectors
from tunesmith_soft_prompts.settings import MultitaskPromptSettings

SHOWN = 5  # rows that a message names


class Tasks:
    """The tasks by name, and the column of a row that names its own.

    Args:
        names: in the order of their numbers.
        column: the column's name.
    """

    def __init__(self, names: tuple[str, ...], column: str) -> None:
        self.names = names
        self.column = column

    def number(self, row: Mapping[str, Any]) -> int:
        """The number of a row's task.

        Raises:
            DataError: the row names none, or one that the recipe does not have.
        """
        if self.column not in row:
            raise self.lacking()
        if row[self.column] not in self.names:
            raise DataError(
                f"{self.column} = {row[self.column]!r} is none of the adapter's tasks",
                details=[f"tasks: {', '.join(self.names)}"],
                fix=f"Mend {self.column!r}, or name the task in `tasks` of [adapter].",
            )
        return self.names.index(row[self.column])

    def lacking(self, details: tuple[str, ...] = ()) -> DataError:
        """What is said when the column is not there."""
        return DataError(
            f"the adapter reads each row's task from {self.column!r}, which is not there",
            details=list(details),
            fix=f'Set keep = ["{self.column}"] in [data] and see that each row has it, or mend task_column.',
        )

    def check(self, data: Dataset) -> None:
        """Every row must name a task, and every task must have a row to train on.

        Raises:
            DataError: with the first rows, or the tasks.
        """
        rows = [(name, row) for records in (data.train, data.validation) for name, row in records]
        lacking = [name for name, row in rows if self.column not in row]
        if lacking:
            raise self.lacking((f"{len(lacking)} rows: {_some(lacking)}",))
        unknown: dict[str, list[str]] = {}
        for name, row in rows:
            if row[self.column] not in self.names:
                unknown.setdefault(repr(row[self.column]), []).append(name)
        if unknown:
            raise DataError(
                f"rows name tasks that the adapter does not have: {', '.join(unknown)}",
                details=[f"{len(names)} x {task}: {_some(names)}" for task, names in unknown.items()],
                fix=f"Mend {self.column!r} in these rows, or name the tasks in `tasks` of [adapter].",
            )
        present = {row[self.column] for _, row in data.train}
        absent = [task for task in self.names if task not in present]
        if absent:
            raise DataError(
                f"no row to train on has the task {', '.join(absent)}",
                details=[f"tasks in {self.column!r}: {', '.join(sorted(present))}"],
                fix="Mend `tasks` in [adapter], or add rows.",
            )


class MultitaskPrompt(SoftPrompt):
    """A prompt for several tasks; every batch must say which task each row is."""

    def __init__(self, handle: ModelHandle, config: Any, tasks: Tasks) -> None:
        column = Column(read=tasks.number, examples=range(len(tasks.names)))
        super().__init__(handle, config, {"task_ids": column})
        self.tasks = tasks

    @property
    def computed(self) -> bool:
        """PEFT keeps all that is trained."""
        return False

    def check_data(self, data: Dataset) -> None:
        """Every row must name a task, and every task must have a row.

        Raises:
            DataError: with the first rows, or the tasks.
        """
        self.tasks.check(data)

    @contextmanager
    def disabled(self) -> Iterator[Any]:
        """The base model, which takes no tasks: those of a batch are left out."""
        with super().disabled() as model:
            base = model.forward

            def forward(*arguments: Any, task_ids: Any = None, **options: Any) -> Any:
                return base(*arguments, **options)

            model.forward = forward  # PEFT puts its own back at the end of its block
            yield model


def apply(handle: ModelHandle, settings: MultitaskPromptSettings, context: Context) -> MultitaskPrompt:
    """Multitask prompt tuning; all tasks start from the shared prompt.

    Raises:
        RecipeError: no room for the virtual tokens, the text has none, or the rank is over the prompt's size.
    """
    hidden = embedding_size(handle.model)
    if settings.rank > min(settings.virtual_tokens, hidden):
        raise RecipeError(
            f"rank = {settings.rank} is over the size of the prompt ({settings.virtual_tokens} x {hidden})",
            fix=f"Set rank = {min(settings.virtual_tokens, hidden)} or less in [adapter].",
        )
    config = MultitaskPromptTuningConfig(
        num_virtual_tokens=settings.virtual_tokens,
        token_dim=hidden,
        num_tasks=len(settings.tasks),
        num_ranks=settings.rank,
        task_type="CAUSAL_LM",
    )
    adapted = MultitaskPrompt(handle, config, Tasks(settings.tasks, settings.task_column))
    if context.fresh:
        adapted.start_from(vectors(handle, settings.virtual_tokens, settings.init, settings.init_text))
    # PEFT starts both factors near zero, and so every prompt; a matrix of ones leaves the shared one as it is
    encoder = adapted.encoder
    with torch.no_grad():
        encoder.prefix_task_rows.zero_()  # (tasks, rank, H)
        encoder.prefix_task_rows[:, 0] = 1.0
        encoder.prefix_task_cols[:, :, 0] = 1.0  # (tasks, virtual tokens, rank)
    say(context, "multitask-prompt", adapted, f"from {settings.init} for {len(settings.tasks)} tasks")
    return adapted


def _some(rows: list[str]) -> str:
    return ", ".join(rows[:SHOWN]) + (", ..." if len(rows) > SHOWN else "")
