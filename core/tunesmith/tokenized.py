"""A stage's rows as its trainer will see them, made without the weights of its models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tunesmith.adapted import handles_of
from tunesmith.context import Context, SilentReporter
from tunesmith.errors import DataError, MissingError
from tunesmith.estimate import Lengths
from tunesmith.guard import guarded, wrong_type
from tunesmith.labels import labels_of
from tunesmith.ledger import Entry, Ledger
from tunesmith.plan import Plan, StagePlan
from tunesmith.records import Dataset, Records
from tunesmith.shown import Shown, Token
from tunesmith.spec import Model, Trainer
from tunesmith.stage import check_type
from tunesmith.unloaded import roles

LOST = "lost in tokenization"  # where a preview says nothing of a row


def encode(plan: Plan, stage: StagePlan, data: Dataset, context: Context) -> list[int]:
    """Encode a stage's training rows as a run does, and tell the ledger; the tokens of each example.

    Raises:
        DataError: a run would refuse the rows.
        MissingError: the trainer, or a model's source, offers no way.
    """
    use, trainer = stage.trainer, _trainer(stage)
    if not trainer.encode:
        raise MissingError(f"trainer {trainer.name!r} offers no encoding of rows without a run")
    models = roles(plan, stage, labels_of(data), context)
    for name, role in stage.roles.items():
        if role.adapter and role.role.trainable:
            with guarded(role.adapter):
                models[name].check_data(data)
    with guarded(use):
        made = trainer.resolve("encode")(data, handles_of(models), use.settings, context)
        lengths = getattr(made, "lengths", None)
        if not isinstance(lengths, Sequence):
            raise wrong_type(use, "a sequence with `lengths`", made)
    return [int(length) for length in lengths]


def measured(plan: Plan, stage: StagePlan, data: Dataset, context: Context) -> list[int]:
    """The tokens of each held-out row as the trainer would see it; empty where none can be had.

    Nothing is told to the ledger: held-out rows are tokenized by evaluators, each in its own way.
    """
    if not len(data.validation):
        return []
    aside = context.with_(
        ledger=Ledger(rows_in=len(data.validation)), max_lost_rows=1.0, facts={}, reporter=SilentReporter()
    )
    try:
        return encode(plan, stage, replace(data, train=data.validation, labels=_names(data)), aside)
    except (DataError, MissingError):
        return []


def show(
    plan: Plan, stage: StagePlan, data: Dataset, records: Records, context: Context
) -> tuple[dict[str, list[Shown]], list[Entry]]:
    """Some rows by name, token by token, as the trainer will see them, and what is lost of them and why.

    Args:
        data: the stage's rows, which decide what labels there are.
        records: the rows to show.

    Raises:
        DataError: the trainer cannot use rows of their type.
        MissingError: the trainer, or a model's source, offers no way.
    """
    trainer = _trainer(stage)
    check_type(trainer, trainer.accepts, data)
    if not trainer.show:
        return _previewed(stage, data, records, context)
    handles = handles_of(roles(plan, stage, labels_of(data), context))
    ledger = Ledger(rows_in=len(records))
    own = context.with_(ledger=ledger, max_lost_rows=1.0, facts={})
    shown: dict[str, list[Shown]] = {}
    with guarded(stage.trainer):
        rows = replace(data, train=records, validation=Records([], []), labels=_names(data))
        for item in trainer.resolve("show")(rows, handles, stage.trainer.settings, own):
            if not isinstance(item, Shown):
                raise wrong_type(stage.trainer, "Shown records", item)
            shown.setdefault(item.row, []).append(item)
    return shown, ledger.entries


def lengths_of(plan: Plan, stage: StagePlan, data: Dataset, context: Context) -> tuple[Lengths, list[int]]:
    """Tokens of every example as training sees it, and the place of its row; a quarter of a row's letters where the
    trainer cannot tell."""
    try:
        shown, _ = show(plan, stage, data, data.train, context)
    except MissingError:
        shown = {}
    tokens: list[int] = []
    supervised: list[int] = []
    places: list[int] = []
    for place, name in enumerate(data.train.ids):
        sequences = shown.get(name, [])
        for number in dict.fromkeys(item.part for item in sequences):
            example = [item for item in sequences if item.part == number]
            tokens.append(sum(len(item.tokens) for item in example))
            supervised.append(sum(item.supervised for item in example))
            places.append(place)
    if tokens:
        return Lengths(tokens=tokens, supervised=supervised), places
    letters = [sum(len(str(value)) for value in row.values()) // 4 + 1 for row in data.train.rows]
    return Lengths(tokens=letters, supervised=letters), list(range(len(letters)))


def _previewed(
    stage: StagePlan, data: Dataset, records: Records, context: Context
) -> tuple[dict[str, list[Shown]], list[Entry]]:
    """The same by the older `preview`, which gets one row at a time: it leaves out those that are lost."""
    use, trainer = stage.trainer, _trainer(stage)
    if not trainer.preview:
        raise MissingError(
            f"trainer {trainer.name!r} offers no preview of its tokens", fix="Leave out --mask to see the rows."
        )
    model = stage.begins
    if model is None or not isinstance(model.component, Model) or not model.component.tokenizer:
        named = f"model source {model.component.name!r}" if model else "this stage's model"
        raise MissingError(f"{named} offers no tokenizer without the model", fix="Leave out --mask to see the rows.")
    with guarded(model):
        tokenizer = model.component.resolve("tokenizer")(model.settings, context)
    shown: dict[str, list[Shown]] = {}
    for place, name in enumerate(records.ids):
        with guarded(use):
            for row in trainer.resolve("preview")(records.take([place]), data.type, use.settings, tokenizer):
                tokens = [Token(text, float(supervised)) for text, supervised in row]
                shown.setdefault(name, []).append(Shown(name, tokens))
    return shown, [Entry(name, "dropped", LOST) for name in records.ids if name not in shown]


def _trainer(stage: StagePlan) -> Trainer:
    trainer = stage.trainer.component
    assert isinstance(trainer, Trainer)
    return trainer


def _names(data: Dataset) -> tuple[str, ...]:
    """The labels of the whole set, for a part of it."""
    labels = labels_of(data)
    return labels.names if labels else ()
