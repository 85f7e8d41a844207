"""The trainer `ppo`: answers are weighed by rewards, divergence and values, and learned from by clipped updates.

Details are numbered as in Huang et al. 2024, "The N+ Implementation Details of RLHF with PPO", arXiv:2403.17031; the
README lists them all. The steps themselves are `tunesmith_transformers.online.loop`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tunesmith import Adapted, Context, Dataset, TrainResult
from tunesmith.adapted import handles_of
from tunesmith_ppo import PpoSettings, numerics
from tunesmith_ppo.rollout import Micro, Weigher
from tunesmith_ppo.updates import PpoUpdater
from tunesmith_ppo.values import Values
from tunesmith_transformers.evaluation.generation import decoded, end_tokens
from tunesmith_transformers.online import optimizer, rewards
from tunesmith_transformers.online.check import MODEL
from tunesmith_transformers.online.checkpoints import Part
from tunesmith_transformers.online.loop import Experience, Loop
from tunesmith_transformers.online.prompts import Prompt, demonstrations
from tunesmith_transformers.online.reward_model import ModelReward
from tunesmith_transformers.online.rows import encode


def train(models: Mapping[str, Adapted], data: Dataset, settings: PpoSettings, context: Context) -> TrainResult:
    """Optimize the policy against the reward.

    Raises:
        RecipeError: there is no reward, or a model that is not named; a setting does not fit the model.
        DataError: too many prompts cannot be used.
        PluginError: the reward function fails; what was learned before is saved.
        NumericalError: a score, loss or gradient is not finite.
    """
    policy = models["policy"]
    reward = rewards.make(models, data.type, settings, settings.micro_batch_size, context)
    prompts = encode(data, handles_of(models), settings, context).items
    _center(reward, demonstrations(prompts, data.type, policy.handle.tokenizer, settings.center_rows), policy, context)
    return Ppo(models, reward, settings, context).run(prompts)


def _center(reward: rewards.Rewards, known: list[tuple[Prompt, list[int]]], policy: Adapted, context: Context) -> None:
    """Shift the scores of a reward model so that their mean over the data's own answers is 0.

    Detail 15. A reward model's level is arbitrary, and the fixed reward of an answer that does not end is not. A
    resumed run finds the same shift again.
    """
    model = reward.parts.get(MODEL)
    if not known or not isinstance(model, ModelReward):
        return
    ends = end_tokens(policy.handle.model, policy.handle.tokenizer)
    shift = model.center(known, [decoded(ids, ends, policy.handle.tokenizer) for _, ids in known])
    context.facts["reward_shift"] = round(shift, 4)
    context.reporter.say(f"the mean score of {len(known)} rows' own answers, {shift:.3f}, is taken off every score")


class Ppo(Loop[Micro]):
    """One run: its models, and how far it has come."""

    def __init__(
        self, models: Mapping[str, Adapted], reward: rewards.Rewards, settings: PpoSettings, context: Context
    ) -> None:
        super().__init__(models["policy"], reward, settings, context)
        self.settings = settings
        self.values = Values(self.policy, models.get("value"), settings.value_gradient)
        self.weigher = Weigher(self.answers, models["reference"], self.values, settings)
        self.kl_coef = settings.kl_coef

    def updater(self, steps: int) -> PpoUpdater:
        """One optimizer over the policy and the values, each with its rate."""
        settings = self.settings
        value_rate = settings.learning_rate if settings.value_learning_rate is None else settings.value_learning_rate
        own = list(self.policy.trainable().values())
        # Detail 20: Adam with epsilon 1e-5, and a rate that falls linearly to 0
        made = optimizer.make(
            [
                optimizer.Trained(self.policy, own, settings.learning_rate),
                optimizer.Trained(self.values.model, self.values.parameters(), value_rate),
            ],
            steps * settings.num_ppo_epochs * settings.num_mini_batches,
            settings,
            self.context,
        )
        return PpoUpdater(self.policy, self.values, made, settings, steps)

    def parts(self) -> dict[str, Part]:
        """The policy and the values."""
        return {**super().parts(), "values": self.values}

    def weigh(
        self, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]], scores: rewards.Scores, step: int
    ) -> Experience[Micro]:
        """Log-probabilities, values, rewards, advantages and returns of answers."""
        return self.weigher.weigh(prompts, answers, scores, self.kl_coef)

    def ends_before(self, experience: Experience[Micro], step: int) -> bool:
        """Whether the answers have diverged too far."""
        kl, bound = experience.metrics["kl"], self.settings.max_kl
        if bound is None or kl <= bound:
            return False
        self.context.reporter.warn(
            f"the answers of step {step} diverge from the reference by {kl:.3g} nats, over max_kl = {bound:g}: "
            "training ends here"
        )
        self.context.facts["stopped_on_kl"] = {"step": step - 1, "kl": kl}
        return True

    def learned(self, experience: Experience[Micro]) -> None:
        """The coefficient follows the divergence where it is adaptive."""
        if self.settings.kl_control == "adaptive":
            kl = experience.metrics["kl"]
            self.kl_coef = numerics.adapted_kl_coef(self.kl_coef, kl, self.settings.kl_target, self.settings.kl_gain)

    def counters(self) -> dict[str, Any]:
        """The coefficient."""
        return {"kl_coef": self.kl_coef}

    def go_on(self, counters: Mapping[str, Any]) -> None:
        """Take over the coefficient."""
        self.kl_coef = counters.get("kl_coef", self.kl_coef)
