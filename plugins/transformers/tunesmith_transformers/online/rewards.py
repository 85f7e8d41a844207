"""Where the reward comes from: built-in scores, functions that the recipe names, a reward model, or their sum."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch

from tunesmith import Adapted, Context
from tunesmith_transformers.online import named
from tunesmith_transformers.online.check import MODEL, NAMED, check_model, reward_names, split_reference
from tunesmith_transformers.online.functions import FunctionReward, load_function
from tunesmith_transformers.online.prompts import Prompt
from tunesmith_transformers.online.reward_model import ModelReward
from tunesmith_transformers.online.settings import ScoreSettings

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
    """

    def __init__(self, parts: Mapping[str, Reward], weights: Sequence[float]) -> None:
        self.parts = dict(parts)
        self.weights = list(weights)

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
    check_model(settings, model is not None)
    parts: dict[str, Reward] = {}
    for reference in names:
        if reference == MODEL:
            assert model is not None
            parts[MODEL] = scorer = ModelReward(model, models["policy"], record_type, batch_size)
            if scorer.apart:
                context.reporter.say(scorer.apart)
        elif reference in NAMED:
            parts[reference] = _Tensor(named.make(reference, settings, record_type))
        else:
            name = split_reference(reference)[1]
            function = FunctionReward(reference, load_function(reference, context))
            parts[reference if name in parts or name in NAMED else name] = function
    return Rewards(parts, settings.reward_weights or [1.0] * len(names))


@dataclass(frozen=True)
class _Tensor:
    """A named reward as a tensor (B,)."""

    reward: named.Named

    def __call__(
        self, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]], texts: Sequence[str]
    ) -> torch.Tensor:
        return torch.tensor(self.reward(prompts, answers, texts), dtype=torch.float32)
