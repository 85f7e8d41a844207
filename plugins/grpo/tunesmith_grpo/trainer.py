"""The trainers `grpo` and `rloo`: several answers to each prompt, learned from relative to each other.

GRPO is that of Shao et al. 2024, arXiv:2402.03300, RLOO that of Ahmadian et al. 2024, arXiv:2402.14740. The steps
themselves are `tunesmith_transformers.online.loop`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from tunesmith import Adapted, Context, Dataset, RecipeError, TrainResult
from tunesmith.adapted import handles_of
from tunesmith_grpo import numerics
from tunesmith_grpo.settings import GroupSettings, GrpoSettings, RlooSettings
from tunesmith_grpo.updates import GroupUpdater, GrpoUpdater, Micro, RlooUpdater
from tunesmith_transformers.online import optimizer, rewards
from tunesmith_transformers.online.answers import diverged
from tunesmith_transformers.online.loop import Experience, Loop
from tunesmith_transformers.online.prompts import Prompt
from tunesmith_transformers.online.rows import encode
from tunesmith_transformers.training.losses import predicting

NAMED = 5  # rows named among those whose groups gave no signal


def grpo(models: Mapping[str, Adapted], data: Dataset, settings: GrpoSettings, context: Context) -> TrainResult:
    """Optimize the policy against rewards relative to the mean of their group.

    Raises:
        RecipeError: there is no reward, or a model that is not named; a setting does not fit the model.
        DataError: too many prompts cannot be used.
        PluginError: a reward function fails; what was learned before is saved.
        NumericalError: a score, loss or gradient is not finite.
    """
    return _train(Grpo, models, data, settings, context)


def rloo(models: Mapping[str, Adapted], data: Dataset, settings: RlooSettings, context: Context) -> TrainResult:
    """Optimize the policy against rewards relative to the mean of the others in their group.

    Raises:
        RecipeError, DataError, PluginError, NumericalError: as `grpo`.
    """
    return _train(Rloo, models, data, settings, context)


def _train(
    kind: type[Groups], models: Mapping[str, Adapted], data: Dataset, settings: Any, context: Context
) -> TrainResult:
    reward = rewards.make(models, data.type, settings, settings.micro_batch_size, context)
    prompts = encode(data, handles_of(models), settings, context).items
    return kind(models, reward, settings, context).run(prompts)


class Groups(Loop[Micro]):
    """One run, with groups of answers to each prompt."""

    def __init__(self, models: Mapping[str, Adapted], reward: rewards.Rewards, settings: Any, context: Context) -> None:
        super().__init__(models["policy"], reward, settings, context, settings.num_generations)
        self.reference = models["reference"]
        self.group: GroupSettings = settings
        self.beta: float = settings.beta
        self.groups = 0
        self.silent = 0  # groups whose rewards were all equal
        self.first: list[str] = []  # the first rows among them
        self.told = False

    @abstractmethod
    def advantages(self, counted: torch.Tensor, kl: torch.Tensor | None) -> torch.Tensor:
        """What each answer is better by than its group, (B,).

        Args:
            counted: rewards, (B,).
            kl: log-ratio to the reference, in nats an answer, (B,); None with beta = 0.
        """

    @abstractmethod
    def group_updater(self, made: tuple[Any, Any], steps: int) -> GroupUpdater:
        """What takes the optimizer steps."""

    def updater(self, steps: int) -> GroupUpdater:
        """One optimizer over the policy."""
        settings = self.group
        own = list(self.policy.trainable().values())
        made = optimizer.make(
            [optimizer.Trained(self.policy, own, settings.learning_rate)],
            steps * settings.num_iterations * settings.num_mini_batches,
            settings,
            self.context,
        )
        return self.group_updater(made, steps)

    def weigh(
        self, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]], scores: rewards.Scores, step: int
    ) -> Experience[Micro]:
        """Log-probabilities and advantages of answers.

        Raises:
            Stopped: the context says so.
            NumericalError: a log-probability is not finite.
            RecipeError: no answer of the first step would count.
        """
        settings, size = self.group, self.group.num_generations
        # The updates take the very batches that the old log-probabilities are computed in: before the first update
        # every ratio is then exactly 1.
        batches = self.answers.batches(prompts, answers)
        counted = self.answers.counted(scores.total, batches.ended)  # (B,)
        kept = batches.ended if settings.mask_truncated_completions else torch.ones_like(batches.ended)
        if step == 1 and not kept.any():
            raise RecipeError(
                f"no answer of the first step ends within max_new_tokens = {settings.max_new_tokens}, and "
                "mask_truncated_completions leaves such answers out: there is nothing to learn from",
                fix="Raise max_new_tokens, tune the model on answers that end, or set mask_truncated_completions = "
                "false in [trainer].",
            )
        logps = self.answers.logps(self.policy, batches)  # (B, L)
        reference = self.answers.logps(self.reference, batches) if self.beta else None
        kl = None if reference is None else (logps - reference).sum(dim=1)  # (B,)
        if not torch.isfinite(logps).all() or not (kl is None or torch.isfinite(kl).all()):
            raise diverged()
        advantages = self.advantages(counted, kl)
        silent = self._silent(prompts[::size], counted, step)
        micros = []
        for batch, made in zip(batches.places, batches.inputs, strict=True):
            device = made["input_ids"].device
            mask = batches.mask[batch]
            micros.append(
                Micro(
                    made,
                    predicting(made["labels"]).nonzero()[:, 0],
                    logps[batch][mask].to(device),
                    None if reference is None else reference[batch][mask].to(device),
                    advantages[batch].to(device),
                    kept[batch].to(device),
                )
            )
        metrics = {
            **scores.metrics(),
            "reward_std": float(counted.view(-1, size).std(dim=1).mean()),
            "frac_reward_zero_std": silent,
            **({} if kl is None else {"kl": float(kl.mean())}),
            "length": float(batches.mask.sum(dim=1).float().mean()),
            "ended": float(batches.ended.float().mean()),
        }
        return Experience(micros, metrics, batches.tokens)

    def _silent(self, prompts: Sequence[Prompt], counted: torch.Tensor, step: int) -> float:
        """Count the groups that nothing can be learned from, and say once when they are all; their share."""
        none = numerics.without_signal(counted, self.group.num_generations).tolist()
        self.groups += len(none)
        self.silent += sum(none)
        rows = [prompt.row for prompt, equal in zip(prompts, none, strict=True) if equal]
        self.first = [*self.first, *rows][:NAMED]
        self.context.facts["groups"] = self.groups
        self.context.facts["groups_without_signal"] = self.silent
        self.context.facts["first_without_signal"] = self.first
        if all(none) and not self.told:
            self.told = True
            taught = "nothing but staying near the reference" if self.beta else "nothing"
            self.context.reporter.warn(
                f"the answers to one prompt all have the same reward, in every group of step {step} "
                f"({prompts[0].row}, ...): {taught} is learned from it. Choose other prompts, a larger "
                "num_generations, or a reward with finer steps"
            )
        return sum(none) / len(none)

    def fate_of_unended(self) -> str:
        """They may be left out of the loss."""
        return "are left out" if self.group.mask_truncated_completions else super().fate_of_unended()

    def counters(self) -> dict[str, Any]:
        """The groups that gave no signal."""
        return {"groups": self.groups, "silent": self.silent, "first": self.first, "told": self.told}

    def go_on(self, counters: Mapping[str, Any]) -> None:
        """Take over the groups that gave no signal."""
        self.groups = counters.get("groups", 0)
        self.silent = counters.get("silent", 0)
        self.first = list(counters.get("first", ()))
        self.told = counters.get("told", False)


class Grpo(Groups):
    """Group relative policy optimization."""

    def __init__(
        self, models: Mapping[str, Adapted], reward: rewards.Rewards, settings: GrpoSettings, context: Context
    ) -> None:
        super().__init__(models, reward, settings, context)
        self.settings = settings

    def advantages(self, counted: torch.Tensor, kl: torch.Tensor | None) -> torch.Tensor:
        """The divergence is in the loss, not here."""
        return numerics.group_advantages(counted, self.settings.num_generations, self.settings.scale_rewards)

    def group_updater(self, made: tuple[Any, Any], steps: int) -> GroupUpdater:
        """Of tokens."""
        return GrpoUpdater(self.policy, made, self.settings, steps)


class Rloo(Groups):
    """REINFORCE leave-one-out."""

    def __init__(
        self, models: Mapping[str, Adapted], reward: rewards.Rewards, settings: RlooSettings, context: Context
    ) -> None:
        super().__init__(models, reward, settings, context)
        self.settings = settings

    def advantages(self, counted: torch.Tensor, kl: torch.Tensor | None) -> torch.Tensor:
        """The price of the divergence is part of each answer's reward."""
        priced = counted if kl is None else counted - self.beta * kl
        found = numerics.leave_one_out(priced, self.settings.num_generations)
        if self.settings.normalize_advantages:
            found = (found - found.mean()) / (found.std() + numerics.TINY)
        return found

    def group_updater(self, made: tuple[Any, Any], steps: int) -> GroupUpdater:
        """Of whole answers."""
        return RlooUpdater(self.policy, made, self.settings, steps)
