"""One batch of answers: drawn, scored, and made into what the updates learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from tunesmith import Adapted, Context, NumericalError
from tunesmith.context import SilentReporter
from tunesmith_ppo import PpoSettings, numerics
from tunesmith_ppo.prompts import Prompt
from tunesmith_ppo.rewards import FunctionReward, ModelReward
from tunesmith_ppo.values import Values
from tunesmith_transformers.batching import by_length, collate
from tunesmith_transformers.generation import decoded, end_tokens, generate_tokens
from tunesmith_transformers.supervised import predictions
from tunesmith_transformers.tokens import Encoded


@dataclass
class Micro:
    """Some answers as one forward pass takes them, and what is learned from their N tokens.

    Args:
        inputs: `input_ids`, `attention_mask`, `labels`, each (B, T), on the model's device, and the columns (B,).
        logps, values, advantages, returns: (N,), those of the rollout.
    """

    inputs: dict[str, torch.Tensor]
    logps: torch.Tensor
    values: torch.Tensor
    advantages: torch.Tensor
    returns: torch.Tensor


@dataclass
class Experience:
    """A step's answers.

    Args:
        micros: all of them, in batches of one forward pass each.
        kl: mean divergence from the reference, in nats an answer.
        ended: the share of answers that have an end token.
        metrics: what is known before the updates.
        tokens: of prompts and answers.
    """

    micros: list[Micro]
    kl: float
    ended: float
    metrics: dict[str, float]
    tokens: int


class Roller:
    """Draws answers and weighs them.

    Args:
        reward: from prompts, answers and their texts to scores (B,).
    """

    def __init__(
        self,
        policy: Adapted,
        reference: Adapted,
        reward: FunctionReward | ModelReward,
        values: Values,
        settings: PpoSettings,
        context: Context,
    ) -> None:
        self.policy = policy
        self.reference = reference
        self.reward = reward
        self.values = values
        self.settings = settings
        self.context = context
        self.ends = end_tokens(policy.handle.model, policy.handle.tokenizer)

    def draw(self, prompts: Sequence[Prompt], seed: int) -> list[list[int]]:
        """An answer to each prompt, with its end token where it has one.

        Raises:
            Stopped: the context says so, between two batches of answers.
            NumericalError: the policy's probabilities are not finite.
        """
        # Prompts are padded on the left. Detail 20: tokens are drawn at a temperature, without top-k or top-p.
        # Details 23.1 and 23.2: what comes after the end token does not count. The paper draws a fixed number of tokens
        # and cuts; here a row is left alone after its end token, which gives the same answers for less work.
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

    def score(self, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]]) -> torch.Tensor:
        """The reward of each answer, (B,).

        Raises:
            TunesmithError: it cannot be had.
        """
        texts = [decoded(ids, self.ends, self.policy.handle.tokenizer) for ids in answers]
        return self.reward(prompts, answers, texts)

    def weigh(
        self, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]], given: torch.Tensor, kl_coef: float
    ) -> Experience:
        """Log-probabilities, values, rewards, advantages and returns of answers.

        Args:
            given: their rewards, (B,).

        Raises:
            Stopped: the context says so.
            NumericalError: a log-probability is not finite.
        """
        settings = self.settings
        tokenizer = self.policy.handle.tokenizer
        ended = torch.tensor([ids[-1] in self.ends for ids in answers])  # (B,) bool
        scores = given
        if settings.missing_eos_reward != "own":
            # Detail 23.3: an answer that does not end gets a fixed low reward; a reward model has seen no such answers.
            scores = torch.where(ended, given, torch.full_like(given, settings.missing_eos_reward))

        rows = [
            Encoded(p.row, (*p.ids, *ids), (False,) * len(p.ids) + (True,) * len(ids), p.columns)
            for p, ids in zip(prompts, answers, strict=True)
        ]
        # The updates take the very batches that the old log-probabilities are computed in: before the first update
        # every ratio is then exactly 1.
        batches = by_length([len(row.ids) for row in rows], settings.micro_batch_size)
        lengths = torch.tensor([len(ids) for ids in answers])  # (B,)
        mask = torch.arange(int(lengths.max())) < lengths[:, None]  # (B, L)
        logps, reference, values, uncertainty = (torch.zeros(mask.shape) for _ in range(4))  # (B, L) each
        inputs = []
        for batch in batches:
            self.context.check_stop("score answers")
            made = collate([rows[index] for index in batch], tokenizer.pad_token_id)
            inputs.append({name: tensor.to(self.policy.handle.model.device) for name, tensor in made.items()})
        with torch.no_grad():
            with self.policy.use() as model:
                model.eval()  # Detail 7: no dropout, here as in the updates
                for batch, made in zip(batches, inputs, strict=True):
                    logits, targets, hidden = scaled_predictions(model, made, settings.temperature)
                    _fill(logps, batch, mask, token_logps(logits, targets))
                    _fill(uncertainty, batch, mask, numerics.entropy(logits))
                    if self.values.on_policy:
                        _fill(values, batch, mask, self.values.of_hidden(hidden))
            with self.reference.use() as model:
                model.eval()
                for batch, made in zip(batches, inputs, strict=True):
                    logits, targets, _ = scaled_predictions(model, made, settings.temperature)
                    _fill(reference, batch, mask, token_logps(logits, targets))
            if not self.values.on_policy:
                with self.values.use() as model:
                    for batch, made in zip(batches, inputs, strict=True):
                        _fill(values, batch, mask, self.values.of_inputs(model, made))

        kl = logps - reference  # (B, L)
        if not torch.isfinite(kl[mask]).all():
            raise diverged()
        rewards = numerics.token_rewards(scores, kl, mask, kl_coef)
        if settings.whiten_rewards:
            rewards = numerics.whiten(rewards, mask, shift_mean=False)  # Detail 24
        advantages, returns = numerics.generalized_advantages(rewards, values, mask, settings.gamma, settings.lam)
        explained = numerics.explained_variance(values[mask], returns[mask])
        if settings.whiten_advantages:
            advantages = numerics.whiten(advantages, mask)  # Detail 25
        divergence = float(kl.sum(dim=1).mean())
        parts = (logps, values, advantages, returns)
        micros = [
            Micro(made, *(part[batch][mask[batch]].to(made["input_ids"].device) for part in parts))
            for batch, made in zip(batches, inputs, strict=True)
        ]
        metrics = {
            "reward": float(given.mean()),
            "reward_with_penalties": float((scores - kl_coef * kl.sum(dim=1)).mean()),
            "kl": divergence,
            "kl_coef": kl_coef,
            "entropy": float(uncertainty[mask].mean()),
            "explained_variance": explained,
            "length": float(lengths.float().mean()),
            "ended": float(ended.float().mean()),
        }
        return Experience(micros, divergence, metrics["ended"], metrics, sum(len(row.ids) for row in rows))


def diverged() -> NumericalError:
    """The error for a policy whose outputs are NaN or infinite."""
    return NumericalError(
        "the policy's probabilities are not finite; stopped before it is trained further",
        fix="Lower the learning rate, and resume from the last checkpoint.",
    )


def scaled_predictions(
    model: Any, inputs: dict[str, torch.Tensor], temperature: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits (N, V) of the distribution that answers are drawn from, the tokens (N,), the hidden states (N, H)."""
    logits, targets, hidden = predictions(model, inputs)
    return logits / temperature, targets, hidden


def token_logps(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Log-probability of each token: logits (N, V), tokens (N,), result (N,)."""
    return -torch.nn.functional.cross_entropy(logits, targets, reduction="none")


def _fill(table: torch.Tensor, rows: Sequence[int], mask: torch.Tensor, values: torch.Tensor) -> None:
    """Put values (N,) of the tokens of some rows, row by row, into `table` (B, L)."""
    part = torch.zeros_like(table[rows])
    part[mask[rows]] = values.float().cpu()
    table[rows] = part
