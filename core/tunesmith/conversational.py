"""Whether the rows of a stage meet a model that has a chat template, so that plain prompts can be its turns."""

from __future__ import annotations

from collections.abc import Iterable

from tunesmith.context import Context
from tunesmith.guard import guarded
from tunesmith.plan import Use
from tunesmith.spec import Model


def has_template(model: Use | None, context: Context) -> bool | None:
    """Whether a model comes with a chat template; None where its source offers no way to tell.

    Raises:
        TunesmithError: the model cannot be had, or its files are damaged.
    """
    if model is None or not isinstance(model.component, Model):
        return None
    with guarded(model):
        if model.component.has_template:
            return bool(model.component.resolve("has_template")(model.settings, context))
        if model.component.tokenizer:
            tokenizer = model.component.resolve("tokenizer")(model.settings, context)
            return bool(getattr(tokenizer, "chat_template", None))
    return None


def have_templates(models: Iterable[Use | None], contexts: Iterable[Context]) -> bool | None:
    """The same of several models, each with its context, that are asked alike; None where they differ."""
    found = {has_template(model, context) for model, context in zip(models, contexts, strict=True)}
    return found.pop() if len(found) == 1 else None
