"""One batch of answers: drawn, read as text, and their log-probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from tunesmith import Adapted, Context, NumericalError
from tunesmith.context import SilentReporter
from tunesmith_transformers.evaluation.generation import decoded, end_tokens, generate_tokens
from tunesmith_transformers.online.numerics import token_logps
from tunesmith_transformers.online.prompts import Prompt
from tunesmith_transformers.online.rewards import Rewards, Scores
from tunesmith_transformers.online.settings import OnlineSettings
from tunesmith_transformers.tokens.batching import by_length, collate
from tunesmith_transformers.tokens.encoding import Encoded
from tunesmith_transformers.training.losses import predictions


@dataclass(frozen=True)
class Batches:
    """Answers in batches of like length: those that every forward pass over them takes.

    Args:
        places: for each batch the places of its answers.
        inputs: for each batch `input_ids`, `attention_mask`, `labels`, each (B, T), on the model's device, and the
            columns (B,).
        mask: true at the tokens of each answer, (B, L) over all answers.
        ended: whether each answer has an end token, (B,) bool.
        tokens: of prompts and answers.
    """

    places: list[list[int]]
    inputs: list[dict[str, torch.Tensor]]
    mask: torch.Tensor
    ended: torch.Tensor
    tokens: int

    def table(self) -> torch.Tensor:
        """Zeros in the shape of `mask`."""
        return torch.zeros(self.mask.shape)

    def fill(self, table: torch.Tensor, batch: Sequence[int], values: torch.Tensor) -> None:
        """Put values (N,) of the tokens of a batch, row by row, into `table` (B, L)."""
        part = torch.zeros_like(table[batch])
        part[self.mask[batch]] = values.float().cpu()
        table[batch] = part


class Answers:
    """Draws answers and has them scored.

    Args:
        rewards: from prompts, answers and their texts to scores.
    """

    def __init__(self, policy: Adapted, rewards: Rewards, settings: OnlineSettings, context: Context) -> None:
        self.policy = policy
        self.rewards = rewards
        self.settings = settings
        self.context = context
        self.ends = end_tokens(policy.handle.model, policy.handle.tokenizer)

    def draw(self, prompts: Sequence[Prompt], seed: int) -> list[list[int]]:
        """An answer to each prompt, with its end token where it has one.

        Raises:
            Stopped: the context says so, between two batches of answers.
            NumericalError: the policy's probabilities are not finite.
        """
        # Prompts are padded on the left, rows on the right to be learned from (Huang et al. 2024, detail 5). Tokens are
        # drawn at a temperature, without top-k or top-p (detail 20). They draw a fixed number of tokens and cut after
        # the end token (details 23.1 and 23.2); here a row is left alone after its end token, which gives the same
        # answers for less work.
        with self.policy.use() as model:
            try:
                return generate_tokens(
                    replace(self.policy.handle, model=model),
                    [prompt.ids for prompt in prompts],
                    max_new_tokens=self.settings.max_new_tokens,
                    batch_size=self.settings.micro_batch_size,
                    temperature=self.settings.temperature,
                    seed=seed,
                    columns=[prompt.columns for prompt in prompts],
                    context=self.context.with_(reporter=SilentReporter()),  # batches of answers are no steps
                )
            except RuntimeError as error:
                if "probability tensor" in str(error):
                    raise diverged() from error
                raise

    def score(self, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]]) -> Scores:
        """The rewards of each answer.

        Raises:
            TunesmithError: they cannot be had.
        """
        texts = [decoded(ids, self.ends, self.policy.handle.tokenizer) for ids in answers]
        return self.rewards(prompts, answers, texts)

    def ended(self, answers: Sequence[Sequence[int]]) -> list[bool]:
        """Whether each answer has an end token."""
        return [ids[-1] in self.ends for ids in answers]

    def counted(self, given: torch.Tensor, ended: torch.Tensor) -> torch.Tensor:
        """The scores that are learned from: `missing_eos_reward` where an answer has no end token.

        Args:
            given, ended: (B,).
        """
        instead = self.settings.missing_eos_reward
        return given if instead == "own" else torch.where(ended, given, torch.full_like(given, instead))

    def batches(self, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]]) -> Batches:
        """The answers behind their prompts, as forward passes take them.

        Raises:
            Stopped: the context says so.
        """
        rows = [
            Encoded(p.row, (*p.ids, *ids), (False,) * len(p.ids) + (True,) * len(ids), p.columns)
            for p, ids in zip(prompts, answers, strict=True)
        ]
        places = by_length([len(row.ids) for row in rows], self.settings.micro_batch_size)
        lengths = torch.tensor([len(ids) for ids in answers])  # (B,)
        inputs = []
        for batch in places:
            self.context.check_stop("score answers")
            made = collate([rows[index] for index in batch], self.policy.handle.tokenizer.pad_token_id)
            inputs.append({name: tensor.to(self.policy.handle.model.device) for name, tensor in made.items()})
        return Batches(
            places,
            inputs,
            mask=torch.arange(int(lengths.max())) < lengths[:, None],
            ended=torch.tensor(self.ended(answers)),
            tokens=sum(len(row.ids) for row in rows),
        )

    def logps(self, adapted: Adapted, batches: Batches) -> torch.Tensor:
        """The log-probability of every token of every answer under a model, without gradients: (B, L), 0 at padding."""
        found = batches.table()
        with torch.no_grad(), adapted.use() as model:
            model.eval()
            for batch, made in zip(batches.places, batches.inputs, strict=True):
                logits, targets, _ = predictions(model, made)
                batches.fill(found, batch, token_logps(logits, targets, self.settings.temperature))
        return found


def diverged() -> NumericalError:
    """The error for a policy whose outputs are NaN or infinite."""
    return NumericalError(
        "the policy's probabilities are not finite; stopped before it is trained further",
        fix="Lower the learning rate, and resume from the last checkpoint.",
    )
