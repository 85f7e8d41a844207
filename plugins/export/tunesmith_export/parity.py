"""How far one model's predictions are from another's, token by token, on held-out rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from tunesmith import Context, DataError, ModelHandle
from tunesmith_export.settings import MergeSettings
from tunesmith_transformers.tokens.batching import by_length, collate
from tunesmith_transformers.tokens.encoding import IGNORED, Encoded, encode
from tunesmith_transformers.training.losses import output_head, selected_positions


@dataclass(frozen=True)
class Predictions:
    """What a model predicts at some positions.

    Args:
        logps: log-probabilities (N, V) in float32, on the CPU.
        loss: mean negative log-likelihood of the tokens that the data hold there, in nats.
    """

    logps: torch.Tensor
    loss: float


@dataclass(frozen=True)
class Distance:
    """How far a model is from a reference.

    Args:
        kl: mean over tokens of KL(reference || model), in nats.
        agreement: share of tokens at which both hold the same token for the likeliest.
    """

    kl: float
    agreement: float

    def within(self, settings: MergeSettings) -> bool:
        """Whether both are within the limits; never when one is no number."""
        return self.kl <= settings.max_kl and self.agreement >= settings.min_agreement

    def __str__(self) -> str:
        return f"KL {self.kl:.3g} nats a token, the same likeliest token at {self.agreement:.1%}"


def held_out(handle: ModelHandle, settings: MergeSettings, context: Context) -> list[Encoded]:
    """Held-out rows of the run, with at most `tokens` supervised tokens in all, evenly spread.

    Raises:
        DataError: no rows are at hand, or none can be compared on.
    """
    if handle.head != "causal-lm":
        raise DataError(f"predictions are compared for language models; this one has a {handle.head!r} head")
    data = context.rows()
    records = data.validation.spread(settings.rows)
    if not len(records):
        raise DataError("the recipe holds no rows out", fix="Set `validation = 0.1` (or a file) in [data].")
    rows = encode(records, data.type, handle.tokenizer, max_length=handle.max_length, columns=handle.columns)
    places = [(number, t) for number, row in enumerate(rows) for t, wanted in enumerate(row.supervised) if wanted]
    if not places:
        raise DataError(f"none of {len(records)} held-out rows can be compared on")
    count = min(settings.tokens, len(places))
    kept = {places[index * len(places) // count] for index in range(count)}
    thinned = [
        replace(row, supervised=tuple((number, t) in kept for t in range(len(row.ids))))
        for number, row in enumerate(rows)
    ]
    return [row for row in thinned if any(row.supervised)]


def predictions(model: Any, rows: Sequence[Encoded], pad: int, batch_size: int) -> Predictions:
    """What `model` predicts at the supervised positions of `rows`, in an order that depends on the rows alone."""
    model.eval()
    head = output_head(model)
    found, losses = [], []
    with torch.inference_mode():
        for batch in by_length([len(row.ids) for row in rows], batch_size):
            inputs = collate([rows[index] for index in batch], pad)
            labels = inputs.pop("labels")  # (B, T)
            wanted = torch.zeros_like(labels, dtype=torch.bool)
            wanted[:, :-1] = labels[:, 1:] != IGNORED  # position t predicts token t + 1
            inputs = {name: tensor.to(model.device) for name, tensor in inputs.items()}
            with selected_positions(head, wanted):
                logits = model(**inputs, use_cache=False).logits[0]  # (N, V)
            logps = torch.log_softmax(logits.float(), dim=-1).cpu()
            targets = labels[:, 1:][labels[:, 1:] != IGNORED]  # (N,)
            found.append(logps)
            losses.append(-logps.gather(1, targets[:, None])[:, 0])
    return Predictions(torch.cat(found), float(torch.cat(losses).double().mean()))


def distance(reference: Predictions, model: Predictions) -> Distance:
    """How far `model` is from `reference`; both over the same positions."""
    kl = total = agreeing = 0.0
    for p, q in zip(reference.logps.split(256), model.logps.split(256), strict=True):  # (256, V)
        kl += float(torch.nn.functional.kl_div(q, p, reduction="sum", log_target=True).double())
        agreeing += float((p.argmax(-1) == q.argmax(-1)).sum())
        total += len(p)
    kl = max(kl, 0.0)  # the same predictions may sum to a little less, by rounding
    if not math.isfinite(model.loss):  # a NaN may hide behind a zero probability
        kl = math.nan
    return Distance(kl / total, agreeing / total)
