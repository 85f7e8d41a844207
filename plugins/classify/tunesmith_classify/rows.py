"""Rows with labels as the trainers learn from them, for a run and for `tunesmith data`."""

from __future__ import annotations

from collections.abc import Mapping

from tunesmith import Context, DataError, Dataset, Labels, ModelHandle, Shown, Token
from tunesmith.labels import names_of
from tunesmith_classify.encode import TAGS, Example, encode_kept, facts
from tunesmith_classify.encode import encode as encode_rows
from tunesmith_classify.settings import TagSettings
from tunesmith_transformers.tokens.batching import Rows
from tunesmith_transformers.tokens.encoding import IGNORED
from tunesmith_transformers.tokens.showing import texts
from tunesmith_transformers.training.arguments import longest

Handles = Mapping[str, ModelHandle]


def encode(data: Dataset, handles: Handles, settings: TagSettings, context: Context) -> Rows[Example]:
    """Encode the training rows and check them; the ledger, the facts and the console are told.

    Raises:
        DataError: too many rows are lost, or the model's labels are not those of the rows.
        RecipeError: max_length is more than the model takes.
    """
    handle = handles["model"]
    labels = _labels(handle)
    check_kind(labels, data)
    limit = longest(settings, handle.max_length)
    examples = encode_kept(data.train, data.type, handle, labels.index, settings, limit, context)
    context.check_rows()
    if not examples:  # held-out rows alone are left
        raise DataError(
            "no row is left after tokenization",
            details=context.ledger.examples(),
            fix="Mend the rows, or raise max_length in [trainer].",
        )
    context.facts["tokens"] = facts(examples)
    context.ledger.trained = len(examples)
    context.reporter.say(f"{len(examples)} rows, {context.facts['tokens']['tokens']} tokens, {len(labels)} labels")
    return Rows(examples, [len(item.ids) for item in examples])


def show(data: Dataset, handles: Handles, settings: TagSettings, context: Context) -> list[Shown]:
    """The training rows token by token, with what they are to be called: the text, or the first token of each word."""
    handle = handles["model"]
    labels = _labels(handle)
    found = encode_rows(
        data.train,
        data.type,
        handle.tokenizer,
        labels.index,
        max_length=longest(settings, handle.max_length),
        overlong=settings.overlong,
        ledger=context.ledger,
        weight=settings.sample_weight,
    )
    rows = dict(data.train)
    return [_shown(item, rows[item.row], data.type, labels, handle) for item in found]


def check_kind(labels: Labels, data: Dataset) -> None:
    """Refuse a head that was made for one label a text where rows have several, or the other way round.

    Raises:
        DataError: it was.
    """
    if labels.several != (data.type == "text-labels"):
        made, found = ("several labels", "one") if labels.several else ("one label", "several")
        raise DataError(
            f"the model was made for {made} a text, and these rows have {found}",
            fix="Start from its base instead of the earlier stage, or mend the rows.",
        )


def _labels(handle: ModelHandle) -> Labels:
    assert handle.labels is not None
    return handle.labels


def _shown(item: Example, row: Mapping[str, object], record_type: str, labels: Labels, handle: ModelHandle) -> Shown:
    written, count = texts(item.ids, handle.tokenizer), 1.0 if item.count is None else item.count
    if record_type != TAGS:
        label = ", ".join(names_of(row, record_type)) or "(no label)"
        return Shown(item.row, [Token(text) for text in written], label=label)
    tokens = [
        Token(text) if place == IGNORED else Token(text, count, labels.names[place])
        for text, place in zip(written, item.target, strict=True)
    ]
    return Shown(item.row, tokens)
