"""Log-probabilities of many answers to each of many prompts.

What prompts have in common at their beginning is computed once, each prompt once, and the answers to it in batches
behind its keys and values. Adapters that put tokens of their own in front of the text are asked the plain way.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from tunesmith import Context, ModelHandle
from tunesmith_transformers.tokens.batching import column_tensors
from tunesmith_transformers.tokens.encoding import IGNORED
from tunesmith_transformers.training.losses import answer_logps, output_head, selected_positions

Array = np.ndarray[Any, Any]
Ids = Sequence[int]


def answer_scores(
    handle: ModelHandle,
    prompts: Sequence[Ids],
    answers: Sequence[Ids],
    columns: Sequence[Mapping[str, int]],
    batch_size: int,
    context: Context,
) -> Array:
    """log p(answer | prompt) of each prompt and answer (N, L), summed over the answer's tokens, in nats.

    Args:
        columns: what the model takes for each prompt besides tokens.
        batch_size: answers a forward pass.
    """
    model = handle.model
    training = model.training
    model.eval()
    scores = np.zeros((len(prompts), len(answers)))
    try:
        with torch.inference_mode():
            score = _Cached(model, prompts) if _keeps_keys(model) and not handle.columns else _Plain(handle)
            for number, prompt in enumerate(prompts):
                context.check_stop("label-likelihood")
                scores[number] = score(prompt, answers, columns[number], batch_size)
                context.reporter.progress(number + 1, len(prompts), {})
    finally:
        model.train(training)
    return scores


def _keeps_keys(model: Any) -> bool:
    """Whether answers may go on from a prompt's keys and values: not behind virtual tokens."""
    config = getattr(model, "active_peft_config", None)
    return not getattr(config, "is_prompt_learning", False)


class _Plain:
    """Each answer behind its whole prompt."""

    def __init__(self, handle: ModelHandle) -> None:
        self.handle = handle

    def __call__(self, prompt: Ids, answers: Sequence[Ids], columns: Mapping[str, int], batch_size: int) -> list[float]:
        found: list[float] = []
        pad = self.handle.tokenizer.pad_token_id
        for start in range(0, len(answers), batch_size):
            part = answers[start : start + batch_size]
            longest = len(prompt) + max(map(len, part))
            rows = [[*prompt, *answer] for answer in part]
            labels = [[*[IGNORED] * len(prompt), *answer] for answer in part]
            inputs = {
                "input_ids": torch.tensor([row + [pad] * (longest - len(row)) for row in rows]),
                "attention_mask": torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows]),
                "labels": torch.tensor([row + [IGNORED] * (longest - len(row)) for row in labels]),
                **column_tensors([columns] * len(part)),
            }
            inputs = {name: tensor.to(self.handle.model.device) for name, tensor in inputs.items()}
            found += answer_logps(self.handle.model, inputs)[0].double().tolist()
        return found


class _Cached:
    """Answers behind the keys and values of their prompt.

    Args:
        prompts: all of them; their common beginning is computed here.
    """

    def __init__(self, model: Any, prompts: Sequence[Ids]) -> None:
        self.model = model
        self.head = output_head(model)
        self.shared = _common([list(prompt) for prompt in prompts])
        self.cache = None
        if self.shared:
            ids = self._ids([prompts[0][: self.shared]])
            with selected_positions(self.head, self._last(ids)):
                self.cache = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=True).past_key_values

    def __call__(self, prompt: Ids, answers: Sequence[Ids], columns: Mapping[str, int], batch_size: int) -> list[float]:
        rest = self._ids([prompt[self.shared :]])
        seen = torch.ones(1, len(prompt), dtype=torch.long, device=rest.device)
        with selected_positions(self.head, self._last(rest)):
            out = self.model(
                input_ids=rest, attention_mask=seen, past_key_values=copy.deepcopy(self.cache), use_cache=True
            )
        first = out.logits[0, -1].float().log_softmax(-1)  # (V,)
        found = [float(first[answer[0]]) for answer in answers]
        longer = sorted(
            (place for place, answer in enumerate(answers) if len(answer) > 1), key=lambda p: len(answers[p])
        )
        for start in range(0, len(longer), batch_size):
            places = longer[start : start + batch_size]
            sums = self._rest_of([answers[place] for place in places], out.past_key_values, len(prompt))
            for place, value in zip(places, sums, strict=True):
                found[place] += value
        return found

    def _rest_of(self, answers: Sequence[Ids], cache: Any, before: int) -> list[float]:
        """The log-probability of each answer's tokens behind its first one."""
        longest = max(map(len, answers)) - 1
        read = self._ids([[*answer[:-1], *[answer[0]] * (longest - len(answer) + 1)] for answer in answers])  # (K, T)
        there = torch.tensor([[1] * (len(answer) - 1) + [0] * (longest - len(answer) + 1) for answer in answers])
        there = there.to(read.device)  # (K, T)
        mask = torch.cat((there.new_ones(len(answers), before), there), dim=1)
        keys = copy.deepcopy(cache)
        keys.batch_repeat_interleave(len(answers))
        with selected_positions(self.head, there.bool()):
            logits = self.model(input_ids=read, attention_mask=mask, past_key_values=keys, use_cache=True).logits[0]
        wanted = torch.tensor([token for answer in answers for token in answer[1:]], device=logits.device)  # (N,)
        losses = functional.cross_entropy(logits.float(), wanted, reduction="none").double()
        lengths = [len(answer) - 1 for answer in answers]
        return [-part.sum().item() for part in losses.split(lengths)]

    def _ids(self, rows: Sequence[Ids]) -> torch.Tensor:
        return torch.tensor([list(row) for row in rows], device=self.model.device)

    @staticmethod
    def _last(ids: torch.Tensor) -> torch.Tensor:
        """A mask of the last position (1, T)."""
        mask = torch.zeros_like(ids, dtype=torch.bool)
        mask[:, -1] = True
        return mask


def _common(prompts: Sequence[list[int]]) -> int:
    """Tokens that all prompts begin with; one at least is left of each."""
    first, last = min(prompts), max(prompts)
    most = min(map(len, prompts)) - 1
    length = 0
    while length < most and first[length] == last[length]:
        length += 1
    return length
