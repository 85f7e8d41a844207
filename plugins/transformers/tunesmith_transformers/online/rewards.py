"""Where the reward comes from: built-in scores, functions that the recipe names, a reward model, or their sum."""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from tunesmith import Adapted, Context, NumericalError, PluginError, RecipeError
from tunesmith.errors import message_of
from tunesmith_transformers.batching import by_length, collate
from tunesmith_transformers.generation import end_tokens
from tunesmith_transformers.heads import scores
from tunesmith_transformers.online import named
from tunesmith_transformers.online.check import MODEL, NAMED, is_file, reward_names, split_reference
from tunesmith_transformers.online.prompts import Prompt
from tunesmith_transformers.online.settings import ScoreSettings
from tunesmith_transformers.tokens import Encoded, column_values, prompt_ids

#: `(prompts, completions, rows) -> list[float]`: prompts as the data has them, completions as text.
Function = Callable[[list[Any], list[str], list[Mapping[str, Any]]], Sequence[float]]

#: `(prompts, answers, texts) -> (B,)`: answers as token ids, texts as what they say.
Reward = Callable[[Sequence[Prompt], Sequence[Sequence[int]], Sequence[str]], torch.Tensor]


@dataclass(frozen=True)
class Scores:
    """What some answers are worth.

    Args:
        total: the weighted sum of all rewards, (B,).
        parts: each reward by its name, unweighted, (B,).
    """

    total: torch.Tensor
    parts: Mapping[str, torch.Tensor]

    def metrics(self) -> dict[str, float]:
        """`reward`, and mean and standard deviation of each by its name, as TRL calls them."""
        found = {"reward": float(self.total.mean())}
        for name, values in self.parts.items():
            found[f"rewards/{name}/mean"] = float(values.mean())
            found[f"rewards/{name}/std"] = float(values.std(unbiased=False))
        return found


class Rewards:
    """One or several rewards with their weights.

    Args:
        parts: the rewards by name.
        weights: one each.
        exact: the one among them that needs a right answer in every row.
    """

    def __init__(
        self, parts: Mapping[str, Reward], weights: Sequence[float], exact: named.ExactAnswer | None = None
    ) -> None:
        self.parts = dict(parts)
        self.weights = list(weights)
        self.exact = exact

    def check_row(self, row: Mapping[str, Any]) -> None:
        """Refuse a row whose answers could not be scored.

        Raises:
            Unusable: with the reason.
            DataError: the reward model needs a chat template and has none.
        """
        if self.exact is not None:
            self.exact.right(row)
        for reward in self.parts.values():
            if isinstance(reward, ModelReward):
                reward.check_row(row)

    def __call__(self, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]], texts: Sequence[str]) -> Scores:
        """The scores of some answers; raises a `TunesmithError` where one of them cannot be had."""
        found = {name: reward(prompts, answers, texts) for name, reward in self.parts.items()}
        total = torch.zeros(len(prompts))
        for weight, values in zip(self.weights, found.values(), strict=True):
            total += weight * values
        return Scores(total, found)


def make(
    models: Mapping[str, Adapted], record_type: str, settings: ScoreSettings, batch_size: int, context: Context
) -> Rewards:
    """The rewards that a recipe names.

    Args:
        models: the roles `policy` and perhaps `reward`.
        record_type: of the rows.
        batch_size: answers that a reward model reads at once.

    Raises:
        RecipeError: there is none, a model that is not named, or a name without its model or function.
    """
    model = models.get("reward")
    names = reward_names(settings) or ((MODEL,) if model is not None else ())
    if not names or (model is None and MODEL in names):
        raise RecipeError(
            "there is no reward model" if names else "there is no reward",
            fix="Name a reward model in [models.reward], or set `reward` in [trainer], for example to a function.",
        )
    if model is not None and MODEL not in names:
        raise RecipeError(
            "there are two rewards: a model, and what `reward` in [trainer] names",
            fix='Leave one of them out, or add "model" to the list: reward = ["model", ...].',
        )
    parts: dict[str, Reward] = {}
    exact = None
    for reference in names:
        if reference == MODEL:
            assert model is not None
            parts[MODEL] = scorer = ModelReward(model, models["policy"], record_type, batch_size)
            if scorer.apart:
                context.reporter.say(scorer.apart)
        elif reference in NAMED:
            scored = named.make(reference, settings, record_type)
            exact = scored if isinstance(scored, named.ExactAnswer) else exact
            parts[reference] = _Tensor(scored)
        else:
            name = split_reference(reference)[1]
            function = FunctionReward(reference, load_function(reference, context))
            parts[reference if name in parts or name in NAMED else name] = function
    return Rewards(parts, settings.reward_weights or [1.0] * len(names), exact)


@dataclass(frozen=True)
class _Tensor:
    """A named reward as a tensor (B,)."""

    reward: named.Named

    def __call__(
        self, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]], texts: Sequence[str]
    ) -> torch.Tensor:
        return torch.tensor(self.reward(prompts, answers, texts), dtype=torch.float32)


class FunctionReward:
    """Scores answers with a Python function.

    Args:
        reference: what the recipe calls it, for messages.
    """

    def __init__(self, reference: str, function: Function) -> None:
        self.reference = reference
        self.function = function

    def __call__(
        self, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]], texts: Sequence[str]
    ) -> torch.Tensor:
        """The score of each answer, (B,).

        Raises:
            PluginError: the function raises, or does not give one number an answer.
            NumericalError: a score is NaN or infinite.
        """
        try:
            found = self._call(prompts, texts)
            values = [float(value) for value in found]
        except Exception as error:
            raise self._failed(prompts, texts, error) from error
        if len(values) != len(prompts):
            raise PluginError(
                f"the reward function {self.reference} gave {len(values)} numbers for {len(prompts)} answers",
                where=prompts[0].row,
                details=[f"the first of them is the answer to {prompts[0].row}, the last that to {prompts[-1].row}"],
                fix="Return one number for each completion, in their order.",
            )
        for prompt, value in zip(prompts, values, strict=True):
            if not math.isfinite(value):
                raise NumericalError(
                    f"the reward function {self.reference} gave {value} for the answer to row {prompt.row}",
                    where=prompt.row,
                    fix="Return a finite number for every answer, also for an empty one.",
                )
        return torch.tensor(values, dtype=torch.float32)

    def _call(self, prompts: Sequence[Prompt], texts: Sequence[str]) -> Sequence[float]:
        return self.function([prompt.given for prompt in prompts], list(texts), [prompt.source for prompt in prompts])

    def _failed(self, prompts: Sequence[Prompt], texts: Sequence[str], error: Exception) -> PluginError:
        """Names the row: the first whose answer alone makes the function fail too."""
        row = f"{prompts[0].row} to {prompts[-1].row}"
        for prompt, text in zip(prompts, texts, strict=True):
            try:
                [float(value) for value in self._call([prompt], [text])]
            except Exception:
                row = prompt.row
                break
        message = message_of(error).partition("\n")[0][:200]
        return PluginError(
            f"the reward function {self.reference} failed on row {row}: {type(error).__name__}: {message}",
            where=row,
            fix="Mend the function; `tunesmith resume` goes on from the last step.",
        )


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
        self.same_tokens = own is other or own.get_vocab() == other.get_vocab()
        self.same_template = own.chat_template == other.chat_template
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

    def check_row(self, row: Mapping[str, Any]) -> None:
        """Refuse a row whose prompt it cannot be given.

        Raises:
            Unusable: its chat template refuses it.
            DataError: it has no chat template, and the row is a conversation.
        """
        if self.apart:
            prompt_ids(row, self.record_type, self.adapted.handle.tokenizer)

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
            ids = (*prompt.ids, *answer)
        else:
            tokenizer = handle.tokenizer
            tail = tokenizer(text, add_special_tokens=False)["input_ids"]
            end = (tokenizer.eos_token_id,) if answer[-1] in self.ends else ()
            ids = (*prompt_ids(prompt.source, self.record_type, tokenizer), *tail, *end)
        return Encoded(prompt.row, ids, (False,) * len(ids), column_values(prompt.source, handle.columns))


def load_function(reference: str, context: Context) -> Function:
    """Import the function that `reward` names.

    Raises:
        RecipeError: it is not there, or its module cannot be imported.
    """
    named, name = split_reference(reference)
    try:
        module = _load_file(context.path(named)) if is_file(named) else importlib.import_module(named)
    except (Exception, SystemExit) as error:
        raise RecipeError(
            f"reward = {reference!r} cannot be imported: {type(error).__name__}: {message_of(error)}",
            fix="Mend the module, or `reward` in [trainer].",
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        raise RecipeError(f"reward = {reference!r}: there is no function {name!r}", fix="Mend `reward` in [trainer].")
    return function


def _load_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"tunesmith_reward_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"no Python module at {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
