"""The evaluator `preference-accuracy`: how often a policy finds the chosen answer likelier than the rejected one."""

from __future__ import annotations

import json

import torch

from tunesmith import Context, Dataset, Evaluation, ModelHandle, RecipeError, Records
from tunesmith_preference.settings import AccuracySettings
from tunesmith_transformers.tokens.batching import by_length
from tunesmith_transformers.tokens.pairs import collate_pairs, held_out_pairs, mean_over_pairs
from tunesmith_transformers.training.losses import answer_logps


def evaluate(handle: ModelHandle, data: Dataset, settings: AccuracySettings, context: Context) -> Evaluation:
    """The share of held-out pairs whose chosen answer has the higher log-probability: summed, and by token.

    Unpaired answers to one prompt are paired, each wanted one with each unwanted one.

    Raises:
        RecipeError: the model is no language model.
        DataError: no held-out pair can be measured.
    """
    if handle.head != "causal-lm":
        raise RecipeError(
            f"preference-accuracy measures a language model; this one has a {handle.head!r} head",
            fix='Write use = "reward-accuracy" in [[evaluate]].',
        )
    records = data.validation if data.type == "preference" else paired(data.validation)
    pairs = held_out_pairs(records.spread(settings.rows), handle, settings.max_length, context)
    sums, means = torch.zeros(len(pairs), 2), torch.zeros(len(pairs), 2)
    model = handle.model
    training = model.training
    model.eval()
    try:
        batches = by_length([pair.length for pair in pairs], settings.batch_size)
        for number, batch in enumerate(batches, 1):
            context.check_stop("preference-accuracy")
            inputs = collate_pairs([pairs[index] for index in batch], handle.tokenizer.pad_token_id)
            with torch.inference_mode():
                logps, tokens = answer_logps(model, {name: value.to(model.device) for name, value in inputs.items()})
            sums[batch] = logps.cpu().reshape(2, -1).T
            means[batch] = (logps / tokens).cpu().reshape(2, -1).T
            context.reporter.progress(number, len(batches), {})
    finally:
        model.train(training)
    return Evaluation(
        measures={
            "pair_accuracy": mean_over_pairs(_won(sums), pairs, "higher", context.seed),
            "pair_accuracy_per_token": mean_over_pairs(_won(means), pairs, "higher", context.seed),
        }
    )


def paired(records: Records) -> Records:
    """Pairs out of single answers: those to one prompt, each wanted one with each unwanted one."""
    by_prompt: dict[str, list[int]] = {}
    for index, row in enumerate(records.rows):
        by_prompt.setdefault(json.dumps(row["prompt"], sort_keys=True), []).append(index)
    rows, names = [], []
    for indices in by_prompt.values():
        for won in (i for i in indices if records.rows[i]["label"]):
            for lost in (i for i in indices if not records.rows[i]["label"]):
                chosen, rejected = records.rows[won], records.rows[lost]
                rows.append({**chosen, "chosen": chosen["completion"], "rejected": rejected["completion"]})
                names.append(f"{records.ids[won]} over {records.ids[lost]}")
    return Records(rows, names)


def _won(values: torch.Tensor) -> list[float]:
    """1 for each row of (N, 2) whose first value is the higher one, half for a tie."""
    return [1.0 if a > b else 0.5 if a == b else 0.0 for a, b in values.tolist()]
