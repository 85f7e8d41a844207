"""Rewards by a reward model of an earlier stage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from tunesmith import Adapted, NumericalError, RecipeError
from tunesmith_transformers.evaluation.generation import end_tokens
from tunesmith_transformers.loading.heads import scores
from tunesmith_transformers.online.prompts import Prompt
from tunesmith_transformers.online.rows import alike
from tunesmith_transformers.tokens.batching import by_length, collate
from tunesmith_transformers.tokens.encoding import column_values, encode_row, prompt_ids
from tunesmith_transformers.tokens.example import Encoded, Unusable
from tunesmith_transformers.tokens.rendering import extras, tokens_of


class ModelReward:
    """Scores answers with a reward model, read at the last token of prompt and answer.

    It is given the policy's own tokens, unless it has another vocabulary, or another chat template for a conversation:
    then it reads the texts, written as in its own training.

    Args:
        policy: whose answers are scored.
        record_type: of the rows.
    """

    def __init__(self, adapted: Adapted, policy: Adapted, record_type: str, batch_size: int) -> None:
        self.adapted = adapted
        self.record_type = record_type
        self.batch_size = batch_size
        own, other = adapted.handle.tokenizer, policy.handle.tokenizer
        self.same_tokens, self.same_template = alike(own, other)
        self.ends = end_tokens(policy.handle.model, other)
        self.sources = (adapted.handle.source, policy.handle.source)
        self.shift = 0.0  # what is taken off every score

    def center(self, known: Sequence[tuple[Prompt, Sequence[int]]], texts: Sequence[str]) -> float:
        """Shift the scores so that their mean over these answers is 0; by how much."""
        prompts, answers = zip(*known, strict=True)
        self.shift += float(self(prompts, answers, texts).mean())
        return self.shift

    @property
    def apart(self) -> str | None:
        """A sentence on what it has otherwise than the policy; None where both read alike."""
        if self.same_tokens and self.same_template:
            return None
        what = "chat template" if self.same_tokens else "vocabulary"
        which = "conversations" if self.same_tokens else "answers"
        return (
            f"the reward model {self.sources[0]} has another {what} than the policy {self.sources[1]}: {which} are "
            "handed to it as text, and read as in its own training"
        )

    def __call__(
        self, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]], texts: Sequence[str]
    ) -> torch.Tensor:
        """The score of each answer, (B,).

        Raises:
            RecipeError: an answer is longer than the reward model takes.
            NumericalError: a score is NaN or infinite.
        """
        handle = self.adapted.handle
        rows = [self._row(*triple) for triple in zip(prompts, answers, texts, strict=True)]
        longest = max(range(len(rows)), key=lambda index: len(rows[index].ids))
        if handle.max_length is not None and len(rows[longest].ids) > handle.max_length:
            raise RecipeError(
                f"row {rows[longest].row} with its answer has {len(rows[longest].ids)} tokens, and the reward model "
                f"takes {handle.max_length}",
                fix=f"Set max_length = {handle.max_length} or less in [trainer].",
            )
        found = torch.zeros(len(rows))
        # Padding is on the right. Detail 12: the score is read at the last token, the end token where there is one.
        with self.adapted.use() as model, torch.no_grad():
            model.eval()
            device = next(model.parameters()).device
            for batch in by_length([len(row.ids) for row in rows], self.batch_size):
                inputs = collate([rows[index] for index in batch], handle.tokenizer.pad_token_id)
                del inputs["labels"]
                found[batch] = scores(model, {name: tensor.to(device) for name, tensor in inputs.items()}).cpu()
        for row, value in zip(rows, found.tolist(), strict=True):
            if not math.isfinite(value):
                raise NumericalError(
                    f"the reward model gave {value} for the answer to row {row.row}",
                    where=row.row,
                    fix="Look at the stage that trained the reward model: its weights are damaged.",
                )
        return found - self.shift

    def _row(self, prompt: Prompt, answer: Sequence[int], text: str) -> Encoded:
        handle = self.adapted.handle
        if self.same_tokens and (self.same_template or isinstance(prompt.given, str)):
            ids = [*prompt.ids, *answer]
        else:
            ids = self._own_ids(prompt, text, ended=answer[-1] in self.ends)
        return Encoded(prompt.row, tuple(ids), (False,) * len(ids), column_values(prompt.source, handle.columns))

    def _own_ids(self, prompt: Prompt, text: str, *, ended: bool) -> list[int]:
        """A prompt with its answer as in the reward model's own training; without an end where it did not end."""
        tokenizer = self.adapted.handle.tokenizer
        asked = prompt_ids(prompt.source, self.record_type, tokenizer)
        answer: Any = text if isinstance(prompt.given, str) else [{"role": "assistant", "content": text}]
        row = {**extras(prompt.source), "prompt": prompt.given, "completion": answer}
        try:
            ids = encode_row(row, "prompt-completion", tokenizer)[-1].ids
        except Unusable:  # an answer that holds what marks turns, or nothing
            return [*asked, *tokens_of(tokenizer, text), *([tokenizer.eos_token_id] if ended else [])]
        return ids if ended else ids[:-1]
