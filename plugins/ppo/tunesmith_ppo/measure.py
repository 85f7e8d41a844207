"""The evaluator `policy-reward`: what a policy's answers to held-out prompts are worth, and how far it has moved."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch

from tunesmith import Adapted, Context, DataError, Dataset, Evaluation, Measure, ModelHandle, RecipeError, Sample
from tunesmith.adapted import handles_of
from tunesmith.stats import bootstrap_mean
from tunesmith.turns import in_words
from tunesmith_ppo.settings import PolicyRewardSettings
from tunesmith_transformers.evaluation.generation import decoded
from tunesmith_transformers.online import rewards
from tunesmith_transformers.online.answers import Answers, Batches
from tunesmith_transformers.online.prompts import Prompt, prompt_of, usable_prompts
from tunesmith_transformers.online.rows import row_check
from tunesmith_transformers.online.settings import OnlineSettings
from tunesmith_transformers.tokens.encoding import reference

NAMED = 5  # rows that a message names


def evaluate(
    handle: ModelHandle,
    data: Dataset,
    settings: PolicyRewardSettings,
    context: Context,
    models: Mapping[str, Adapted],
) -> Evaluation:
    """`reward` and its parts by name, `kl` (nats an answer, where there is a reference), `length` and `ended`.

    Each prompt counts once, with the mean of its answers; the interval is the 95 % percentile bootstrap over prompts.
    The divergence is estimated from the drawn answers: the log-ratio of their tokens, summed.

    Raises:
        RecipeError: there is no reward, or a model that is not named; a model is of another kind or vocabulary.
        DataError: no held-out prompt can be answered.
        PluginError, NumericalError: as the reward does.
    """
    if handle.head != "causal-lm":
        raise RecipeError(
            f"policy-reward measures a language model; this one has a {handle.head!r} head",
            fix='Write use = "reward-accuracy" in [[evaluate]].',
        )
    policy = Adapted(handle)
    reward = rewards.make({**models, "policy": policy}, data.type, settings, settings.batch_size, context)
    check_row = row_check(handles_of({**models, "policy": policy}), data.type, settings)
    prompts = _prompts(handle, data, check_row, settings, context)
    asked = [prompt for prompt in prompts for _ in range(settings.answers)]
    drawing = OnlineSettings(
        max_new_tokens=settings.max_new_tokens,
        micro_batch_size=settings.batch_size,
        temperature=settings.temperature,
    )
    answers = Answers(policy, reward, drawing, context)
    training = handle.model.training
    handle.model.eval()
    try:
        drawn = answers.draw(asked, context.seed)
        scores = answers.score(asked, drawn)
        batches = answers.batches(asked, drawn)
        lengths = batches.mask.sum(dim=1).float()
        found = {"reward": _measure(scores.total, "higher", settings, context)}
        if len(scores.parts) > 1:
            found |= {
                f"reward/{name}": _measure(part, "higher", settings, context) for name, part in scores.parts.items()
            }
        if "reference" in models:
            ratios = _log_ratios(answers, models["reference"], batches)
            found["kl"] = _measure(ratios, "lower", settings, context, "nats")
    finally:
        handle.model.train(training)
    found["length"] = _measure(lengths, "lower", settings, context, "tokens")
    found["ended"] = _measure(batches.ended.float(), "higher", settings, context)
    count = min(settings.samples, len(prompts))
    places = [index * len(prompts) // count for index in range(count)]
    texts = [decoded(drawn[place * settings.answers], answers.ends, handle.tokenizer) for place in places]
    samples = tuple(_sample(prompts[place], text, data) for place, text in zip(places, texts, strict=True))
    return Evaluation(measures=found, samples=samples)


def _prompts(
    handle: ModelHandle,
    data: Dataset,
    check_row: Callable[[Mapping[str, Any]], None],
    settings: PolicyRewardSettings,
    context: Context,
) -> list[Prompt]:
    """The different prompts among the held-out rows, as many as are wanted."""
    first: dict[str, int] = {}
    for index, row in enumerate(data.validation.rows):
        first.setdefault(repr(prompt_of(row)), index)
    records = data.validation.take(list(first.values())).spread(settings.rows)
    prompts, left_out = usable_prompts(
        records, data.type, handle, settings.max_new_tokens, handle.max_length, check_row
    )
    named = [f"{row}: {reason}" for row, reason in list(left_out.items())[:NAMED]]
    if not prompts:
        raise DataError(
            "no held-out prompt can be answered",
            details=named,
            fix="Lower max_new_tokens of the evaluator, or hold out other rows in [data].",
        )
    if left_out:
        context.reporter.warn(f"{len(left_out)} held-out prompts are not answered ({'; '.join(named)})")
    return prompts


def _log_ratios(answers: Answers, other: Adapted, batches: Batches) -> torch.Tensor:
    """log pi(answer) - log reference(answer) of each answer in nats, (B,)."""
    if other.handle.tokenizer.get_vocab() != answers.policy.handle.tokenizer.get_vocab():
        raise RecipeError(
            "the reference has another vocabulary than the policy, so there is no divergence between them",
            fix="Name a reference of the same family in [evaluate.models.reference], or leave it out.",
        )
    theirs = answers.logps(other, batches)  # (B, L)
    return (answers.logps(answers.policy, batches) - theirs).sum(dim=1)


def _measure(
    values: torch.Tensor,
    better: Literal["higher", "lower"],
    settings: PolicyRewardSettings,
    context: Context,
    unit: str = "",
) -> Measure:
    """The mean over prompts of the mean over each prompt's answers; values (B,), those to one prompt side by side."""
    of_prompt: Sequence[float] = values.reshape(-1, settings.answers).mean(dim=1).tolist()
    value, low, high = bootstrap_mean(of_prompt, seed=context.seed)
    return Measure(
        value=value, low=low, high=high, n=len(of_prompt), better=better, unit=unit, per_row=tuple(of_prompt)
    )


def _sample(prompt: Prompt, text: str, data: Dataset) -> Sample:
    return Sample(
        row=prompt.row, prompt=in_words(prompt.given), answer=text, reference=reference(prompt.source, data.type)
    )
