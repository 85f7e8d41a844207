"""Training on single answers that are wanted or unwanted: KTO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tunesmith import Adapted, Context, Dataset, TrainResult
from tunesmith.adapted import handles_of
from tunesmith_preference import losses
from tunesmith_preference.answers import encode as encode_answers
from tunesmith_preference.reference import Reference, known, reference_of
from tunesmith_preference.settings import KtoSettings
from tunesmith_transformers.tokens.batching import Rows, collate
from tunesmith_transformers.tokens.example import Encoded
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
    found = encode_answers(data, handles_of(models), settings, context)
    encoded, others = found.rows, found.mismatched
    config, _ = prepare(policy, settings, context, settings.disable_dropout)
    reference = reference_of(models, encoded, context)
    assert reference is not None
    values = known(reference, [*encoded, *others], settings, context)
    count = len(encoded)
    examples = [
        Example(
            answer=row,
            wanted=found.wanted[index],
            mismatched=others[index] if others else None,
            reference=tuple(values[index::count]) if values else None,
            weight=found.weights[index],
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
