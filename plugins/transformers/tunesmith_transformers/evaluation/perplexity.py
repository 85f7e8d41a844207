"""Held-out perplexity of the supervised tokens, with a bootstrap interval over rows."""

from __future__ import annotations

import math

import torch

from tunesmith import Context, DataError, Dataset, Evaluation, Ledger, Measure, ModelHandle, Records
from tunesmith.spec import RecordType
from tunesmith.stats import bootstrap_ratio
from tunesmith_transformers.tokens.batching import by_length, collate
from tunesmith_transformers.tokens.encoding import encode
from tunesmith_transformers.training.losses import token_losses
from tunesmith_transformers.training.settings import GeneralPerplexitySettings, PerplexitySettings


def evaluate(handle: ModelHandle, data: Dataset, settings: PerplexitySettings, context: Context) -> Evaluation:
    """exp(sum of negative log-likelihoods / number of tokens) over the supervised tokens.

    The interval is the 95 % percentile bootstrap over rows. `per_row` holds each row's mean negative
    log-likelihood, in nats, and `weights` its tokens.

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
) -> Measure:
    """The perplexity of some rows; see `evaluate`."""
    limit = min(filter(None, (settings.max_length, handle.max_length)), default=None)
    left_out = Ledger()
    encoded = encode(records, record_type, handle.tokenizer, max_length=limit, ledger=left_out, columns=handle.columns)
    if not encoded:
        raise DataError(
            f"none of the {len(records)} held-out rows can be measured",
            details=left_out.examples(),
            fix="Mend these rows, or hold out others in [data].",
        )
    if left_out.dropped:
        context.reporter.warn(f"{left_out.dropped} held-out rows are not measured ({'; '.join(left_out.examples())})")
    found = row_losses(handle, encoded, settings.batch_size, context)
    measured = [(item.row, *own) for item, own in zip(encoded, zip(*found, strict=True), strict=True) if own[1]]
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


def row_losses(handle: ModelHandle, encoded: list, batch_size: int, context: Context) -> tuple[list[float], list[int]]:
    """Summed negative log-likelihood (nats) and number of supervised tokens of each row, in order."""
    sums = [0.0] * len(encoded)
    counts = [0] * len(encoded)
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
                losses, rows = token_losses(model, inputs)
                for position, index in enumerate(batch):
                    own = losses[rows == position]
                    sums[index], counts[index] = own.double().sum().item(), own.numel()
                context.reporter.progress(number, len(batches), {})
    finally:
        model.train(was_training)
    return sums, counts
