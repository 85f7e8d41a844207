"""The evaluator `reward-accuracy`: a reward model on held-out pairs."""

from __future__ import annotations

import math

import torch

from tunesmith import Context, Curve, Dataset, Evaluation, Measure, ModelHandle, RecipeError
from tunesmith.calibration import expected_error
from tunesmith_reward.calibration import reliability, rightly
from tunesmith_reward.settings import RewardAccuracySettings
from tunesmith_transformers.loading.heads import scores
from tunesmith_transformers.tokens.batching import by_length
from tunesmith_transformers.tokens.pairs import Pair, collate_pairs, held_out_pairs, mean_over_pairs


def evaluate(handle: ModelHandle, data: Dataset, settings: RewardAccuracySettings, context: Context) -> Evaluation:
    """`pair_accuracy`, `pair_loss` (nats) and `calibration_error`, and the curve `calibration`.

    The first two have the 95 % percentile bootstrap over prompts, whose pairs are drawn together; a tie counts half.

    Raises:
        RecipeError: the model has no scalar head.
        DataError: no held-out pair can be measured.
    """
    if handle.head != "scalar":
        raise RecipeError(
            f"reward-accuracy measures a reward model; this one has a {handle.head!r} head",
            fix='Write use = "preference-accuracy" in [[evaluate]].',
        )
    pairs = held_out_pairs(data.validation.spread(settings.rows), handle, settings.max_length, context)
    ahead = rewards_ahead(handle, pairs, settings.batch_size, context)
    bins = reliability(ahead, settings.bins)
    points = tuple((item.confidence, item.accuracy) for item in bins)
    loss = [max(-value, 0.0) + math.log1p(math.exp(-abs(value))) for value in ahead]
    return Evaluation(
        measures={
            "pair_accuracy": mean_over_pairs([rightly(value) for value in ahead], pairs, "higher", context.seed),
            "pair_loss": mean_over_pairs(loss, pairs, "lower", context.seed),
            "calibration_error": Measure(value=expected_error(bins), better="lower", n=len(ahead)),
        },
        curves=(Curve(name="calibration", x="confidence", points=points, ideal=((0.5, 0.5), (1.0, 1.0))),),
    )


def rewards_ahead(handle: ModelHandle, pairs: list[Pair], batch_size: int, context: Context) -> list[float]:
    """Chosen minus rejected reward of each pair, in order."""
    ahead = [0.0] * len(pairs)
    model = handle.model
    training = model.training
    model.eval()
    try:
        batches = by_length([pair.length for pair in pairs], batch_size)
        for number, batch in enumerate(batches, 1):
            context.check_stop("reward-accuracy")
            inputs = collate_pairs([pairs[index] for index in batch], handle.tokenizer.pad_token_id)
            inputs.pop("labels")
            with torch.inference_mode():
                chosen, rejected = scores(model, {k: v.to(model.device) for k, v in inputs.items()}).chunk(2)
            for index, value in zip(batch, (chosen - rejected).tolist(), strict=True):
                ahead[index] = value
            context.reporter.progress(number, len(batches), {})
    finally:
        model.train(training)
    return ahead
