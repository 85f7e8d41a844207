"""Plain prompts and answers: as the turns of a conversation where the model has a chat template, else parted by text.

A base model without a template has nothing that tells it where a prompt ends. The separator becomes the prompt's end,
so that whatever reads the row (training, generation, rewards, evaluation) has it in the same place.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from tunesmith import RecipeError
from tunesmith_data.pairs import as_chat
from tunesmith_data.settings import RowSettings

SEPARATOR = "\n"
ANSWERS = ("completion", "chosen", "rejected")

Row = Mapping[str, Any]
Change = Callable[[Row], dict[str, Any]]


class Turns:
    """Decides once, at the first plain prompt, whether plain rows become conversations, and what parts them if not.

    Args:
        has_template: whether the model has a chat template; None where that cannot be told.

    Attributes:
        chosen: whether they do; None before a plain prompt was met.
    """

    def __init__(self, settings: RowSettings, has_template: Callable[[], bool | None]) -> None:
        self.settings = settings
        self._has_template = has_template
        self.asked = settings.conversational is True or settings.system is not None
        self.chosen: bool | None = True if self.asked else settings.conversational
        self._why = self._parted = ""
        self._base = False  # the model is known to have no template
        self._plain = self._apart = 0  # plain rows, and those of them with white space of their own

    def of(self, values: dict[str, Any]) -> dict[str, Any]:
        """A converted row as it shall be trained on, but for what all rows must be seen for."""
        plain = isinstance(values.get("prompt"), str)
        if plain:
            if not self._why:
                self._decide()
            self._plain += 1
            self._apart += _has_space(values)
        return as_chat(values, self.settings.system) if self.asked or (plain and self.chosen) else values

    def settled(self, source: str, *, listed: bool) -> Change | None:
        """What becomes of every row after all were read; None for nothing.

        Args:
            source: the file or data set, for messages.
            listed: whether some rows came as conversations: a trainer takes one kind of row.

        Raises:
            RecipeError: the settings do not fit the rows.
        """
        follows = listed and self._plain > 0 and not self.chosen
        if follows:
            self._follow(source)
        if self.chosen or not self._plain:
            if self.settings.separator is not None:
                what = "the rows become conversations" if self._plain else "no row has a plain prompt"
                raise RecipeError(
                    f"`separator` does not apply: {what}",
                    where=source,
                    fix="Leave it out" + (", or set conversational = false." if self._plain and not listed else "."),
                )
            return as_chat if follows else None
        separator = self._separator()
        return (lambda row: {**row, "prompt": row["prompt"] + separator}) if separator else None

    @property
    def said(self) -> str:
        """What was chosen and why, to stand behind a format's title; empty where no row has a plain prompt."""
        return f", {self._why}{self._parted}" if self._why else ""

    def _follow(self, source: str) -> None:
        """Plain rows become conversations since others are.

        Raises:
            RecipeError: the settings want the plain ones left so.
        """
        if self.settings.conversational is False:
            raise RecipeError(
                "conversational = false leaves some rows plain, but others are conversations already",
                where=source,
                fix="Leave `conversational` out, so that all become conversations, or part the rows into two files.",
            )
        self.chosen, self._why = True, "as conversations, as some of them are"

    def _separator(self) -> str:
        wanted = self.settings.separator
        if wanted is not None:
            self._parted = f"; {json.dumps(wanted, ensure_ascii=False)} ends each prompt, as set by `separator`"
        elif self._base and 2 * self._apart > self._plain:
            wanted, self._parted = "", "; white space of their own parts prompts and answers"
        elif self._base:
            wanted = SEPARATOR
            self._parted = '; a line break is put behind each prompt (separator = "" puts nothing there)'
        return wanted or ""

    def _decide(self) -> None:
        if self.chosen is not None:
            kept = "as conversations" if self.chosen else "as plain text"
            option = "conversational" if self.settings.conversational is not None else "system"
            self._why = f"{kept}, as set by `{option}`"
            return
        found = self._has_template()
        self.chosen, self._base = bool(found), found is False
        if found:
            self._why = "as conversations: the model has a chat template (conversational = false leaves them plain)"
        elif found is None:
            self._why = "as plain text: whether the model has a chat template cannot be told"
        else:
            self._why = "as plain text: the model has no chat template"


def _has_space(row: Row) -> bool:
    """Whether white space parts a plain prompt and each of its answers."""
    answers = [row[column] for column in ANSWERS if column in row] + list(row.get("answers", ()))
    begun = [isinstance(answer, str) and answer[:1].isspace() for answer in answers]
    return bool(row["prompt"][-1:].isspace()) or (bool(begun) and all(begun))
