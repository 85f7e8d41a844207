"""Plain prompts and answers as the turns of a conversation, where the model that is trained has a chat template."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tunesmith import RecipeError
from tunesmith_data.pairs import as_chat
from tunesmith_data.settings import RowSettings


class Turns:
    """Decides once, at the first plain prompt, whether plain rows become conversations.

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
        self._why = ""

    def of(self, values: dict[str, Any]) -> dict[str, Any]:
        """A converted row as it shall be trained on."""
        plain = isinstance(values.get("prompt"), str)
        if plain and not self._why:
            self._decide()
        return as_chat(values, self.settings.system) if self.asked or (plain and self.chosen) else values

    def follow(self, source: str) -> None:
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

    @property
    def said(self) -> str:
        """What was chosen and why, to stand behind a format's title; empty where no row has a plain prompt."""
        return f", {self._why}" if self._why else ""

    def _decide(self) -> None:
        if self.chosen is not None:
            kept = "as conversations" if self.chosen else "as plain text"
            option = "conversational" if self.settings.conversational is not None else "system"
            self._why = f"{kept}, as set by `{option}`"
            return
        found = self._has_template()
        self.chosen = bool(found)
        if found:
            self._why = "as conversations: the model has a chat template (conversational = false leaves them plain)"
        elif found is None:
            self._why = "as plain text: whether the model has a chat template cannot be told"
        else:
            self._why = "as plain text: the model has no chat template"
