"""The evaluator `classification`: a classifier on held-out rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from tunesmith import Context, Dataset, Evaluation, Labels, ModelHandle, RecipeError
from tunesmith.labels import LABEL_HEADS, names_of
from tunesmith_classify.encode import TAGS, Collator, Example, held_out
from tunesmith_classify.judged import one_label, several_labels
from tunesmith_classify.settings import ClassificationSettings
from tunesmith_classify.tagged import tagged_words
from tunesmith_transformers.loading.heads import head_outputs, row_outputs
from tunesmith_transformers.tokens.batching import by_length
from tunesmith_transformers.tokens.encoding import IGNORED


def evaluate(handle: ModelHandle, data: Dataset, settings: ClassificationSettings, context: Context) -> Evaluation:
    """How right the model is on held-out rows; a label that it does not know counts as wrong.

    Raises:
        RecipeError: the model has no head for labels.
        DataError: no held-out row can be measured.
    """
    labels = handle.labels
    if handle.head not in LABEL_HEADS or labels is None:
        raise RecipeError(
            f"classification measures a model with a head for labels; this one has a {handle.head!r} head",
            fix='Write use = "label-likelihood" in [[evaluate]] to ask a language model for labels.',
        )
    records = data.validation.spread(settings.rows)
    unknown = dict.fromkeys(n for _, row in records for n in names_of(row, data.type) if n not in labels.index)
    names = (*labels.names, *unknown)
    index = {name: place for place, name in enumerate(names)}
    examples = held_out(records, data.type, handle, index, settings.max_length, context)
    rows = dict(records)
    found = probabilities(handle, examples, data.type, settings.batch_size, context)
    if data.type == TAGS:
        targets = [[place for place in item.target if place != IGNORED] for item in examples]
        words = [(item.row, rows[item.row]["tokens"][: len(row)]) for item, row in zip(examples, targets, strict=True)]
        return tagged_words(found, targets, words, names, settings, context.seed)
    texts = [(item.row, rows[item.row]["text"]) for item in examples]
    together = np.stack([row[0] for row in found])
    if labels.several:
        wanted = np.zeros((len(examples), len(names)))
        for place, item in enumerate(examples):
            wanted[place, list(item.target)] = 1
        together = np.pad(together, ((0, 0), (0, len(unknown))))
        return several_labels(together, wanted, texts, names, settings, settings.threshold, context.seed)
    return one_label(together, [item.target[0] for item in examples], texts, names, settings, context.seed)


def probabilities(
    handle: ModelHandle, examples: Sequence[Example], record_type: str, batch_size: int, context: Context
) -> list[Any]:
    """For each row the probabilities of labels as an array (W, L): a line for each word, or one for a text."""
    labels = handle.labels
    assert labels is not None
    found: list[Any] = [None] * len(examples)
    collate = Collator(handle.tokenizer.pad_token_id, record_type, Labels(labels.names))
    model = handle.model
    training = model.training
    model.eval()
    batches = by_length([len(item.ids) for item in examples], batch_size)
    try:
        with torch.inference_mode():
            for number, batch in enumerate(batches, 1):
                context.check_stop("classification")
                rows = [examples[index] for index in batch]
                inputs = collate([Example(row.row, row.ids, row.target or (0,), row.columns) for row in rows])
                inputs.pop("labels")
                inputs = {name: tensor.to(model.device) for name, tensor in inputs.items()}
                if record_type == TAGS:
                    outputs = head_outputs(model, inputs)
                    outputs = outputs[:, outputs.shape[1] - inputs["input_ids"].shape[1] :]  # (B, T, L)
                else:
                    outputs = row_outputs(model, inputs).unsqueeze(1)  # (B, 1, L)
                given = outputs.sigmoid() if labels.several else outputs.softmax(dim=-1)
                for place, index in enumerate(batch):
                    target = examples[index].target
                    at = [t for t, tag in enumerate(target) if tag != IGNORED] if record_type == TAGS else [0]
                    found[index] = given[place, at].double().cpu().numpy()
                context.reporter.progress(number, len(batches), {})
    finally:
        model.train(training)
    return found
