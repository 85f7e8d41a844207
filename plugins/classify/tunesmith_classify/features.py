"""What a head reads, computed once where nothing below the head moves: then an epoch costs next to nothing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from tunesmith import Adapted, Context
from tunesmith_classify.encode import COUNTS, Collator, Example
from tunesmith_transformers.loading.heads import at_last, head_call, last_head
from tunesmith_transformers.tokens.batching import by_length

LARGEST = 1 << 30  # bytes that are kept
ROWS = 64  # a forward pass


def only_head_moves(adapted: Adapted) -> nn.Module | None:
    """The head's last module where it holds all that is trained, else None."""
    head = last_head(adapted.model)
    own = {id(parameter) for parameter in head.parameters()}
    return head if all(id(parameter) in own for parameter in adapted.trainable().values()) else None


def features(adapted: Adapted, examples: Sequence[Example], collate: Collator, context: Context) -> torch.Tensor | None:
    """What the head reads of each row (N, H), without dropout; None where that would take too much memory.

    Raises:
        Stopped: a signal came.
    """
    model = adapted.model
    training = model.training
    model.eval()
    found: torch.Tensor | None = None
    batches = by_length([len(item.ids) for item in examples], ROWS)
    context.reporter.say("nothing below the head moves: what it reads is computed once, without dropout")
    try:
        with torch.no_grad():
            for number, batch in enumerate(batches, 1):
                context.check_stop("train")
                inputs = collate([examples[index] for index in batch])
                for name in ("labels", COUNTS):
                    inputs.pop(name, None)
                inputs = {name: tensor.to(model.device) for name, tensor in inputs.items()}
                read = at_last(head_call(model, inputs)[0], inputs["attention_mask"])  # (B, H)
                if found is None:
                    if len(examples) * read.shape[1] * read.element_size() > LARGEST:
                        return None
                    found = torch.empty(len(examples), read.shape[1])
                found[batch] = read.cpu()
                context.reporter.progress(number, len(batches), {})
    finally:
        model.train(training)
    return found


class FeatureCollator:
    """Another collator's batch, and what the head reads of its rows: `features` (B, H)."""

    def __init__(self, collate: Collator, examples: Sequence[Example], found: torch.Tensor) -> None:
        self.collate = collate
        self.found = found
        self.places = {item.row: place for place, item in enumerate(examples)}

    def __call__(self, rows: Sequence[Example]) -> dict[str, torch.Tensor]:
        return {**self.collate(rows), "features": self.found[[self.places[row.row] for row in rows]]}
