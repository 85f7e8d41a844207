"""The trainer `ppo`: steps of answering, weighing and learning, with checkpoints between them.

Details are numbered as in Huang et al. 2024, "The N+ Implementation Details of RLHF with PPO", arXiv:2403.17031; the
README lists them all.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from tunesmith import Adapted, Context, Dataset, RecipeError, Stopped, TrainResult, TunesmithError
from tunesmith.guard import seed_everything
from tunesmith_ppo import PpoSettings, numerics, optimizer
from tunesmith_ppo.prompts import Order, encode_prompts
from tunesmith_ppo.rewards import FunctionReward, ModelReward, load_function
from tunesmith_ppo.rollout import Experience, Roller
from tunesmith_ppo.state import Checkpoints
from tunesmith_ppo.updates import Updater
from tunesmith_ppo.values import Values

UNENDED = 0.5  # share of answers without an end from which the console says so


def train(models: Mapping[str, Adapted], data: Dataset, settings: PpoSettings, context: Context) -> TrainResult:
    """Optimize the policy against the reward.

    Raises:
        RecipeError: there is no reward, or two; a setting does not fit the model.
        DataError: too many prompts cannot be used.
        PluginError: the reward function fails; what was learned before is saved.
        NumericalError: a score, loss or gradient is not finite.
    """
    policy = models["policy"]
    limit = policy.handle.max_length
    if settings.max_length is not None:
        if limit is not None and settings.max_length > limit:
            raise RecipeError(
                f"max_length = {settings.max_length}, but the model takes {limit} tokens",
                fix=f"Set max_length = {limit} or less in [trainer].",
            )
        limit = settings.max_length
    reward = _reward(models, data, settings, context)
    prompts = encode_prompts(data, policy.handle, settings.max_new_tokens, limit, context)
    return Ppo(models, reward, settings, context).run(prompts)


def _reward(
    models: Mapping[str, Adapted], data: Dataset, settings: PpoSettings, context: Context
) -> FunctionReward | ModelReward:
    model = models.get("reward")
    if (model is None) == (settings.reward is None):
        raise RecipeError(
            "there is no reward" if model is None else "there are two rewards: a model and a function",
            fix="Name a reward model in [models.reward], or set `reward` in [trainer] to a function; not both.",
        )
    if model is not None:
        tokenizer = models["policy"].handle.tokenizer
        return ModelReward(model, tokenizer, data.type, settings.micro_batch_size)
    assert settings.reward is not None
    return FunctionReward(settings.reward, load_function(settings.reward, context))


class Ppo:
    """One run: its models, and how far it has come."""

    def __init__(
        self,
        models: Mapping[str, Adapted],
        reward: FunctionReward | ModelReward,
        settings: PpoSettings,
        context: Context,
    ) -> None:
        self.settings = settings
        self.context = context
        self.policy = models["policy"]
        self.values = Values(self.policy, models.get("value"), settings.value_gradient)
        self.roller = Roller(self.policy, models["reference"], reward, self.values, settings, context)
        self.kl_coef = settings.kl_coef
        self.tokens = 0
        self.warned = False

    def run(self, prompts: list[Any]) -> TrainResult:
        """Train to the end, or from the newest good checkpoint on when the context says so."""
        settings, context = self.settings, self.context
        begun = time.monotonic()
        total = settings.max_steps or math.ceil(settings.epochs * len(prompts) / settings.batch_size)
        updates = total * settings.num_ppo_epochs * settings.num_mini_batches
        made, scheduler = optimizer.make(self.policy, self.values, updates, settings, context)
        updater = Updater(self.policy, self.values, made, scheduler, settings, updates)
        checkpoints = Checkpoints(context, self.policy, self.values, made, scheduler, settings.save_total_limit)
        order = Order(len(prompts), settings.batch_size, context.seed)
        step, earlier = checkpoints.restore()
        self._go_on(earlier)
        for adapted in updater.adapters:
            adapted.begin(updates)
        context.reporter.say(f"{len(prompts)} prompts, {settings.batch_size} of them a step; dropout is off")
        metrics: dict[str, float] = dict(earlier.get("metrics", {}))
        stopped: int | None = None
        while step < total:
            seed = context.seed * 1_000_003 + step + 1
            seed_everything(seed)  # a step draws the same wherever the run was interrupted
            batch = [prompts[index] for index in order.of_step(step + 1)]
            try:
                answers = self.roller.draw(batch, seed)
                try:
                    given = self.roller.score(batch, answers)
                except TunesmithError:
                    checkpoints.save(step, self._progress(metrics))  # the policy is as the last step left it
                    raise
                experience = self.roller.weigh(batch, answers, given, self.kl_coef)
            except Stopped as signal:
                stopped = signal.signal_number
                break
            self._watch(experience, step + 1)
            if settings.max_kl is not None and experience.kl > settings.max_kl:
                context.reporter.warn(
                    f"the answers of step {step + 1} diverge from the reference by {experience.kl:.3g} nats, over "
                    f"max_kl = {settings.max_kl:g}: training ends here"
                )
                context.facts["stopped_on_kl"] = {"step": step, "kl": experience.kl}
                total = step
                break
            rates = {"learning_rate": scheduler.get_last_lr()[0]}
            metrics = {**updater.learn(experience.micros, step + 1, seed), **experience.metrics, **rates}
            step += 1
            self.tokens += experience.tokens
            if settings.kl_control == "adaptive":
                self.kl_coef = numerics.adapted_kl_coef(
                    self.kl_coef, experience.kl, settings.kl_target, settings.kl_gain
                )
            context.reporter.progress(step, total, metrics)
            if context.stop or step == total or step % settings.save_steps == 0:
                checkpoints.save(step, self._progress(metrics))
            if context.stop and step < total:
                stopped = context.stop.signal_number
                break
        checkpoints.save(step, self._progress(metrics))
        seconds = time.monotonic() - begun
        return TrainResult(
            steps=step, total_steps=total, metrics=metrics, seconds=seconds, tokens=self.tokens, stopped=stopped
        )

    def _progress(self, metrics: Mapping[str, float]) -> dict[str, Any]:
        return {"kl_coef": self.kl_coef, "tokens": self.tokens, "warned": self.warned, "metrics": dict(metrics)}

    def _go_on(self, earlier: Mapping[str, Any]) -> None:
        self.kl_coef = earlier.get("kl_coef", self.kl_coef)
        self.tokens = earlier.get("tokens", self.tokens)
        self.warned = earlier.get("warned", self.warned)

    def _watch(self, experience: Experience, step: int) -> None:
        """Say once when many answers do not end."""
        unended = 1.0 - experience.ended
        self.context.facts["ended"] = round(experience.ended, 4)
        if unended < UNENDED or self.warned:
            return
        self.warned = True
        told = self.settings.missing_eos_reward
        worth = "their own reward" if told == "own" else f"a reward of {told:g}"
        self.context.reporter.warn(
            f"{unended:.0%} of the answers of step {step} do not end within max_new_tokens = "
            f"{self.settings.max_new_tokens} and get {worth}: raise it, or tune the model on answers that end"
        )
