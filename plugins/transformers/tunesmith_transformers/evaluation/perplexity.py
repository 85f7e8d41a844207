"""Held-out perplexity of the supervised tokens, with a bootstrap interval over rows."""

from __future__ import annotations

import math

import torch

from tunesmith import Context, DataError, Dataset, Evaluation, Ledger, Measure, ModelHandle, Records
from tunesmith.spec import RecordType
from tunesmith.stats import bootstrap_ratio
from tunesmith_transformers.tokens.batching import by_length, collate
from tunesmith_transformers.tokens.encoding import encode
from tunesmith_transformers.tokens.example import Encoded
from tunesmith_transformers.training.losses import split_weights, token_losses
from tunesmith_transformers.training.settings import GeneralPerplexitySettings, PerplexitySettings


def evaluate(handle: ModelHandle, data: Dataset, settings: PerplexitySettings, context: Context) -> Evaluation:
    """exp(sum of weighted negative log-likelihoods / sum of weights) over the supervised tokens.

    The interval is the 95 % percentile bootstrap over rows. `per_row` holds each row's mean negative
    log-likelihood, in nats, and `weights` its tokens, each by its weight. Text longer than `max_length` is measured
    in chunks, so that each of its tokens counts.

    Raises:
        DataError: no held-out row can be measured.
    """
    records = data.validation.spread(settings.rows)
    return Evaluation(measures={"perplexity": perplexity_of(records, data.type, handle, settings, context)})


def perplexity_of(
    records: Records,
    record_type: RecordType,
    handle: ModelHandle,
    settings: PerplexitySettings | GeneralPerplexitySettings,
    context: Context,
    overlong: str = "auto",
) -> Measure:
    """The perplexity of some rows; see `evaluate`, and for `overlong` see `tokens.encoding.encode`."""
    limit = min(filter(None, (settings.max_length, handle.max_length)), default=None)
    left_out = Ledger()
    encoded = encode(
        records,
        record_type,
        handle.tokenizer,
        max_length=limit,
        overlong=overlong,
        ledger=left_out,
        columns=handle.columns,
    )
    if not encoded:
        raise DataError(
            f"none of the {len(records)} held-out rows can be measured",
            details=left_out.examples(),
            fix="Mend these rows, or hold out others in [data].",
        )
    if left_out.dropped:
        context.reporter.warn(f"{left_out.dropped} held-out rows are not measured ({'; '.join(left_out.examples())})")
    found = row_losses(handle, encoded, settings.batch_size, context)
    by_row: dict[str, tuple[float, float]] = {}
    for item, total, count in zip(encoded, *found, strict=True):
        so_far = by_row.get(item.row, (0.0, 0))
        by_row[item.row] = (so_far[0] + total, so_far[1] + count)
    measured = [(row, *own) for row, own in by_row.items() if own[1]]
    rows, sums, counts = zip(*measured, strict=True) if measured else ((), (), ())
    value, low, high = bootstrap_ratio(sums, counts, seed=context.seed, transform=math.exp)
    per_row = tuple(total / count for total, count in zip(sums, counts, strict=True))
    return Measure(
        value=value,
        low=low,
        high=high,
        n=len(sums),
        better="lower",
        per_row=per_row,
        weights=counts,
        rows=rows,
        smallest=1e-4,  # the exponential of a mean over thousands of tokens, some of them in 16 bits
    )


def row_losses(
    handle: ModelHandle, encoded: list[Encoded], batch_size: int, context: Context
) -> tuple[list[float], list[float]]:
    """Summed negative log-likelihood (nats) and number of the supervised tokens of each example, in order; each token
    counts by its weight."""
    sums = [0.0] * len(encoded)
    counts = [0.0] * len(encoded)
    model = handle.model
    was_training = model.training
    model.eval()
    batches = by_length([len(item.ids) for item in encoded], batch_size)
    try:
        with torch.inference_mode():
            for number, batch in enumerate(batches, 1):
                context.check_stop("perplexity")
                inputs = collate([encoded[i] for i in batch], handle.tokenizer.pad_token_id)
                inputs = {name: tensor.to(model.device) for name, tensor in inputs.items()}
                inputs, weights = split_weights(inputs)
                losses, rows = token_losses(model, inputs)
                for position, index in enumerate(batch):
                    own = weights[rows == position].double()
                    sums[index] = (losses[rows == position].double() * own).sum().item()
                    counts[index] = own.sum().item()
                context.reporter.progress(number, len(batches), {})
    finally:
        model.train(was_training)
    return sums, counts
