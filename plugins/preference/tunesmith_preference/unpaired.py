"""Training on single answers that are wanted or unwanted: KTO."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from tunesmith import Adapted, Context, DataError, Dataset, Ledger, TrainResult
from tunesmith_preference import losses
from tunesmith_preference.reference import Reference, known, limit_of, reference_of
from tunesmith_preference.settings import KtoSettings, one_or_last
from tunesmith_transformers.tokens import cache as token_cache
from tunesmith_transformers.tokens.batching import Rows, collate
from tunesmith_transformers.tokens.contract import contract
from tunesmith_transformers.tokens.example import Encoded, weight_of
from tunesmith_transformers.tokens.pairs import UNEVEN
from tunesmith_transformers.training.durable import Durable
from tunesmith_transformers.training.losses import answer_logps
from tunesmith_transformers.training.mean_trainer import MeanTrainer, prepare

OWN_WEIGHTS = "own_weights"  # of a batch (B,): how much each answer counts in the loss
DRIFT = "drift_"  # prefix of a batch's tensors that belong to the mismatched answers
LOSSES = {"kto": losses.kto, "apo_zero_unpaired": losses.apo_zero_unpaired}


@dataclass(frozen=True)
class Example:
    """One answer.

    Args:
        wanted: whether it is.
        mismatched: the prompt with another row's answer, by which the drift from the reference is estimated.
        reference: the reference's log-probability of the answer, and of the mismatched one, where known.
        weight: how much the answer counts in the loss.
    """

    answer: Encoded
    wanted: bool
    mismatched: Encoded | None = None
    reference: tuple[float, ...] | None = None
    weight: float = 1.0


@dataclass(frozen=True)
class Collator:
    """Examples to a batch: what `collate` makes of the answers, `wanted` and `own_weights` (B,), the same of the
    mismatched answers under names that start with `DRIFT`, and `reference` and `drift_reference` (B,) where they are
    known."""

    pad_token_id: int

    def __call__(self, examples: Sequence[Example]) -> dict[str, torch.Tensor]:
        batch = collate([example.answer for example in examples], self.pad_token_id)
        batch["wanted"] = torch.tensor([example.wanted for example in examples])
        batch[OWN_WEIGHTS] = torch.tensor([example.weight for example in examples], dtype=torch.float32)
        others = [example.mismatched for example in examples if example.mismatched is not None]
        if others:
            batch |= {f"{DRIFT}{name}": tensor for name, tensor in collate(others, self.pad_token_id).items()}
        values = [example.reference for example in examples if example.reference is not None]
        if values:
            batch |= dict(zip(("reference", f"{DRIFT}reference"), torch.tensor(values).T, strict=False))
        return batch


class UnpairedTrainer(MeanTrainer):
    """Minimizes KTO's loss."""

    def __init__(self, *args: Any, settings: KtoSettings, reference: Reference, **options: Any) -> None:
        self.settings = settings
        self.reference = reference
        super().__init__(*args, **options)

    def count(self, batch: Mapping[str, torch.Tensor]) -> float:
        """The weights of the answers in a batch; without weights their number."""
        return float(batch[OWN_WEIGHTS].sum()) if OWN_WEIGHTS in batch else len(batch["labels"])

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The micro-batch's share in the mean loss over the whole accumulated batch."""
        own = {name: value for name, value in inputs.items() if not name.startswith(DRIFT)}
        others = {name.removeprefix(DRIFT): value for name, value in inputs.items() if name.startswith(DRIFT)}
        wanted = own.pop("wanted")  # (B,)
        weights_of_rows = own.pop(OWN_WEIGHTS, torch.ones(len(wanted), device=wanted.device))  # (B,)
        drift = own["labels"].new_zeros((), dtype=torch.float32)
        if others:
            reference = others.pop("reference", None)
            reference = self.reference.logps(others) if reference is None else reference
            drift = (self.reference.of_policy(others) - reference).mean().clamp(min=0)
        reference = own.pop("reference", None)
        reference = self.reference.logps(own) if reference is None else reference  # (B,)
        logps, _ = answer_logps(model, own)  # (B,)
        settings = self.settings
        weights = (settings.desirable_weight, settings.undesirable_weight)
        values = LOSSES[settings.loss_type](logps - reference, wanted, drift, settings.beta, weights)  # (B,)
        count = weights_of_rows.sum() if num_items_in_batch is None else num_items_in_batch
        loss = (weights_of_rows * values).sum() / count
        rewards = settings.beta * (logps.detach() - reference)
        self.note(
            {
                "kl": drift,
                "rewards/chosen": rewards[wanted],
                "rewards/rejected": rewards[~wanted],
                "logps/chosen": logps[wanted],
                "logps/rejected": logps[~wanted],
            }
        )
        return (loss, {"loss": loss}) if return_outputs else loss


class DurableUnpaired(Durable, UnpairedTrainer):
    """The trainer that runs."""


def kto(models: Mapping[str, Adapted], data: Dataset, settings: KtoSettings, context: Context) -> TrainResult:
    """Encode the answers, check them, train.

    Raises:
        DataError: too many rows are lost, all answers are of one kind, or all prompts are one.
        RecipeError: max_length is more than the models take, or the reference does not fit.
        NumericalError: a loss or gradient is not finite.
    """
    policy = models["policy"]
    tokenizer = policy.handle.tokenizer
    limit = limit_of(models, settings)
    found = token_cache.encode(
        data.train,
        "prompt-completion",
        tokenizer,
        context,
        max_length=limit,
        overlong=settings.overlong,
        turns=one_or_last(settings),
        columns=policy.handle.columns,
        keep=settings.token_cache,
    )
    labels = {name: bool(row["label"]) for name, row in data.train}
    kept = {item.row for item in found}
    own_weights = {name: weight_of(row) for name, row in data.train if name in kept}
    even = _even(found, own_weights, context.ledger)
    encoded = without_contradictions(even, labels, limit, context.ledger)
    context.check_rows()
    context.facts["tokens"] = facts = contract(encoded, tokenizer)
    context.ledger.trained = len(encoded)
    wanted = [labels[row.row] for row in encoded]
    _check_kinds(wanted)
    context.reporter.say(
        f"{sum(wanted)} wanted and {len(wanted) - sum(wanted)} unwanted answers, {facts['tokens']} tokens"
    )
    others = mismatched(encoded, limit) if settings.loss_type == "kto" else []
    config, _ = prepare(policy, settings, context, settings.disable_dropout)
    reference = reference_of(models, encoded, context)
    assert reference is not None
    values = known(reference, [*encoded, *others], settings, context)
    count = len(encoded)
    examples = [
        Example(
            answer=row,
            wanted=wanted[index],
            mismatched=others[index] if others else None,
            reference=tuple(values[index::count]) if values else None,
            weight=own_weights[row.row],
        )
        for index, row in enumerate(encoded)
    ]
    trainer = DurableUnpaired(
        model=policy.model,
        args=config,
        train_dataset=Rows(examples, [len(row.ids) for row in encoded]),
        data_collator=Collator(tokenizer.pad_token_id),
        processing_class=tokenizer,
        settings=settings,
        reference=reference,
        adapted=policy,
        context=context,
        evaluation=settings,
        group_by_length=settings.group_by_length,
    )
    return trainer.run()


def _even(found: Iterable[Encoded], weights: Mapping[str, float], ledger: Ledger) -> list[Encoded]:
    """The answers whose tokens all weigh as their row does; others go to the ledger."""
    kept = []
    for item in found:
        if set(item.weights) <= {0.0, weights[item.row]}:
            kept.append(replace(item, weights=()))
        else:
            ledger.drop(item.row, UNEVEN)
    return kept


def without_contradictions(
    encoded: Sequence[Encoded], labels: Mapping[str, bool], limit: int | None, ledger: Ledger
) -> list[Encoded]:
    """The answers without those that are wanted in one row and unwanted in another; these go to the ledger.

    Args:
        labels: by row, whether its answer is wanted.
        limit: longest row, in tokens; two answers may be the same because they were cut there.
        ledger: knows which were.
    """
    cut = {entry.row for entry in ledger.of("truncated")}
    seen: dict[tuple[int, ...], set[bool]] = {}
    for row in encoded:
        seen.setdefault(row.ids, set()).add(labels[row.row])
    kept = []
    for row in encoded:
        if len(seen[row.ids]) == 1:
            kept.append(row)
        elif row.row in cut:
            ledger.drop(row.row, f"wanted and unwanted are identical after the cut at max_length = {limit}")
        else:
            ledger.drop(row.row, "the same answer is wanted and unwanted")
    return kept


def mismatched(encoded: Sequence[Encoded], limit: int | None) -> list[Encoded]:
    """Each prompt with the answer of the next row whose prompt is another one, around the end to the start.

    Args:
        limit: longest row, in tokens; the answer is cut.

    Raises:
        DataError: all rows have one prompt, so that no answer is out of place.
    """
    starts = [row.supervised.index(True) for row in encoded]
    prompts = [row.ids[:start] for row, start in zip(encoded, starts, strict=True)]
    count = len(encoded)
    following = [0] * count  # the next row with another prompt, found from the end on, twice around
    found: int | None = None
    for step in range(2 * count - 1, -1, -1):
        here, after = step % count, (step + 1) % count
        if prompts[here] != prompts[after]:
            found = after
        if step < count and found is None:
            raise DataError(
                "all rows have one prompt: KTO estimates the drift from the reference by answers to other prompts",
                fix='Add rows with other prompts, or set loss_type = "apo_zero_unpaired" in [trainer].',
            )
        following[here] = found if found is not None else 0
    result = []
    for index, row in enumerate(encoded):
        other = following[index]
        answer = encoded[other].ids[starts[other] :]
        ids = (*prompts[index], *answer)[:limit]
        supervised = (*row.supervised[: starts[index]], *encoded[other].supervised[starts[other] :])[:limit]
        result.append(replace(row, ids=ids, supervised=supervised))
    return result


def _check_kinds(wanted: Sequence[bool]) -> None:
    if len(set(wanted)) < 2:
        raise DataError(
            f"every row's label is {str(wanted[0]).lower()}: KTO learns from wanted and unwanted answers",
            fix="Add rows of the other kind.",
        )
