"""Training on pairs: DPO and its kin, IPO, ORPO, CPO, SimPO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tunesmith import Adapted, Context, Dataset, TrainResult
from tunesmith.adapted import handles_of
from tunesmith_preference.losses import Answers
from tunesmith_preference.objectives import Objective
from tunesmith_preference.reference import Reference, known, reference_of
from tunesmith_preference.rows import encode
from tunesmith_preference.settings import PreferenceSettings
from tunesmith_transformers.tokens.batching import Rows
from tunesmith_transformers.tokens.encoding import IGNORED
from tunesmith_transformers.tokens.pairs import Pair, collate_pairs, pair_weights
from tunesmith_transformers.training.durable import Durable
from tunesmith_transformers.training.losses import summed, token_losses
from tunesmith_transformers.training.mean_trainer import MeanTrainer, prepare

PAIR_WEIGHTS = "pair_weights"  # of a batch (B,): how much each pair counts in the loss


@dataclass(frozen=True)
class Example:
    """A pair, and the reference's log-probabilities of its two answers where they are known before training."""

    pair: Pair
    reference: tuple[float, float] | None = None


@dataclass(frozen=True)
class Collator:
    """Examples to a batch: `input_ids`, `attention_mask`, `labels` (2B, T), chosen answers first.

    With `prompt_loss` the labels of the chosen rows cover their prompts, and `answers` (2B, T) is true at answers.
    With known references, `reference` (2B,). `pair_weights` (B,).
    """

    pad_token_id: int
    prompt_loss: bool = False

    def __call__(self, examples: Sequence[Example]) -> dict[str, torch.Tensor]:
        batch = collate_pairs([example.pair for example in examples], self.pad_token_id)
        if self.prompt_loss:
            labels = batch["labels"]
            batch["answers"] = labels != IGNORED
            inside = batch["attention_mask"].bool() & (torch.arange(labels.shape[1]) > 0)
            inside[len(examples) :] = False
            batch["labels"] = torch.where(inside, batch["input_ids"], labels)
        sides = [example.reference for example in examples if example.reference is not None]
        if sides:
            batch["reference"] = torch.tensor(sides).T.flatten()  # (B, 2) -> (2B,)
        batch[PAIR_WEIGHTS] = pair_weights([example.pair for example in examples])
        return batch


class PairTrainer(MeanTrainer):
    """Minimizes an objective on pairs, each by its weight.

    Args:
        objective: what is minimized.
        reference: computed beside each step, unless the batches bring its log-probabilities along.
    """

    def __init__(self, *args: Any, objective: Objective, reference: Reference | None, **options: Any) -> None:
        self.objective = objective
        self.reference = reference
        self._nll_tokens: torch.Tensor | None = None
        super().__init__(*args, **options)

    def count(self, batch: Mapping[str, torch.Tensor]) -> float:
        """The weights of the pairs in a batch; without weights their number."""
        return float(_weights(batch).sum())

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: Any) -> torch.Tensor:
        self._nll_tokens = sum(_nll_tokens(batch["labels"], _weights(batch)) for batch in batch_samples)
        return super()._get_num_items_in_batch(batch_samples, device)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The objective's share of this micro-batch in the whole accumulated batch."""
        weights = _weights(inputs)  # (B,)
        inputs = {name: value for name, value in inputs.items() if name != PAIR_WEIGHTS}
        reference, answers = inputs.pop("reference", None), inputs.pop("answers", None)
        labels = inputs["labels"]  # (2B, T)
        if reference is None and self.reference is not None:
            # before the policy's own pass: a disabled adapter may swap weights that its gradient needs
            reference = self.reference.logps(inputs)  # (2B,)
        nll, rows = token_losses(model, inputs)  # (N,), (N,)
        half = len(labels) // 2
        logps, tokens = self._by_answer(nll, rows, labels, answers)
        references = reference.chunk(2) if reference is not None else (None, None)
        chosen, rejected = (Answers(*side) for side in zip(logps.chunk(2), tokens.chunk(2), references, strict=True))
        counted = num_items_in_batch is not None
        total = nll.new_zeros(())
        if self.objective.loss is not None:
            values = self.objective.loss(chosen, rejected)  # (B,)
            total = total + (weights.to(nll.device) * values).sum() / (num_items_in_batch if counted else weights.sum())
        if self.objective.nll_weight:
            own = weights.to(nll.device)[rows[rows < half].to(nll.device)]  # of each token of the chosen half
            of_chosen = (own * nll[rows < half]).sum()
            count = self._nll_tokens if counted else _nll_tokens(labels, weights)
            total = total + self.objective.nll_weight * of_chosen / torch.as_tensor(count, device=nll.device)
            self.note({"nll_loss": nll[rows < half]})
        self._note(chosen, rejected)
        return (total, {"loss": total}) if return_outputs else total

    def _by_answer(
        self, nll: torch.Tensor, rows: torch.Tensor, labels: torch.Tensor, answers: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Summed log-probability and number of tokens of each answer (2B,), the prompt left out."""
        if answers is not None:
            wanted = answers[:, 1:][labels[:, 1:] != IGNORED]  # (N,)
            nll, rows = nll[wanted], rows[wanted]
        return summed(-nll, rows, len(labels)), torch.bincount(rows, minlength=len(labels))

    def _note(self, chosen: Answers, rejected: Answers) -> None:
        with torch.no_grad():
            won, lost = self.objective.reward(chosen), self.objective.reward(rejected)
        self.note(
            {
                "rewards/chosen": won,
                "rewards/rejected": lost,
                "rewards/accuracies": won > lost,
                "rewards/margins": won - lost,
                "logps/chosen": chosen.logps,
                "logps/rejected": rejected.logps,
            }
        )


class DurablePairs(Durable, PairTrainer):
    """The trainer that runs."""


def train(
    models: Mapping[str, Adapted],
    data: Dataset,
    settings: PreferenceSettings,
    context: Context,
    objective: Objective,
) -> TrainResult:
    """Encode the pairs, check them, train.

    Raises:
        DataError: too many pairs are lost, or none can be used.
        RecipeError: max_length is more than the models take, or the reference does not fit.
        NumericalError: a loss or gradient is not finite.
    """
    policy = models["policy"]
    tokenizer = policy.handle.tokenizer
    pairs = encode(data, handles_of(models), settings, context).items
    config, _ = prepare(policy, settings, context, settings.disable_dropout)
    sides = [side for pair in pairs for side in (pair.chosen, pair.rejected)]
    reference = reference_of(models, sides, context)
    values = known(reference, sides, settings, context)
    examples = [
        Example(pair, (values[2 * number], values[2 * number + 1]) if values else None)
        for number, pair in enumerate(pairs)
    ]
    trainer = DurablePairs(
        model=policy.model,
        args=config,
        train_dataset=Rows(examples, [pair.length for pair in pairs]),
        data_collator=Collator(tokenizer.pad_token_id, objective.prompt_loss),
        processing_class=tokenizer,
        objective=objective,
        reference=reference,
        adapted=policy,
        context=context,
        evaluation=settings,
        group_by_length=settings.group_by_length,
    )
    return trainer.run()


def _weights(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """The weight of each pair (B,)."""
    labels = batch["labels"]
    return batch.get(PAIR_WEIGHTS, torch.ones(len(labels) // 2, device=labels.device))


def _nll_tokens(labels: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Tokens that the likelihood term is over, those of the chosen half, each by the weight of its pair."""
    tokens = (labels[: len(labels) // 2, 1:] != IGNORED).sum(1)  # (B,)
    return (weights.to(labels.device) * tokens).sum()
