"""The steps of a run on a model's own answers: answering, weighing, learning, with checkpoints between them."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from tunesmith import Adapted, Context, Measure, RecipeError, Stopped, TrainResult, TunesmithError
from tunesmith.guard import seed_everything
from tunesmith_transformers.online.answers import Answers
from tunesmith_transformers.online.checkpoints import Checkpoints, Part
from tunesmith_transformers.online.prompts import Order, Prompt
from tunesmith_transformers.online.rewards import Rewards, Scores
from tunesmith_transformers.online.settings import OnlineSettings
from tunesmith_transformers.online.updates import Updater
from tunesmith_transformers.training.best_checkpoint import Best, falls_on

SAVE_STEPS = 10  # between checkpoints, where the recipe does not say
UNENDED = 0.5  # share of answers without an end from which the console says so

Micro = TypeVar("Micro")


@dataclass
class Experience(Generic[Micro]):
    """A step's answers, made into what the updates learn from.

    Args:
        micros: all of them, in batches of one forward pass each.
        metrics: what is known before the updates.
        tokens: of prompts and answers.
    """

    micros: list[Micro]
    metrics: dict[str, float]
    tokens: int


class Loop(ABC, Generic[Micro]):
    """One run: its models, and how far it has come. A method derives it.

    Args:
        policy: answers, and learns.
        answers: each prompt gets so many a step.
    """

    def __init__(
        self, policy: Adapted, rewards: Rewards, settings: OnlineSettings, context: Context, answers: int = 1
    ) -> None:
        self.policy = policy
        self.context = context
        self.answers = Answers(policy, rewards, settings, context)
        self.each = answers
        self.tokens = 0
        self.warned = False
        self.unended: Counter[str] = Counter()  # answers without an end, by the row of their prompt
        self.endless = 0  # steps in a row in which no answer ended
        self.best = Best(settings, context, {"reward": Measure(value=math.nan, better="higher")})
        self.measuring = 0.0  # seconds between steps
        self.rewards: list[float] = []  # the mean of each step since the last measurement
        self._settings = settings

    # --- what a method brings -----------------------------------------------------------------
    @abstractmethod
    def updater(self, steps: int) -> Updater[Micro]:
        """What takes the optimizer steps of a run of so many steps."""

    @abstractmethod
    def weigh(
        self, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]], scores: Scores, step: int
    ) -> Experience[Micro]:
        """What is learned from answers: `answers` times as many as prompts, those to one prompt side by side.

        Raises:
            Stopped: the context says so.
            NumericalError: a log-probability is not finite.
        """

    def parts(self) -> dict[str, Part]:
        """What a checkpoint holds, the policy first."""
        return {"policy": self.policy}

    def ends_before(self, experience: Experience[Micro], step: int) -> bool:
        """Whether training ends before this step is learned from."""
        return False

    def learned(self, experience: Experience[Micro]) -> None:
        """Called after a step's updates."""

    def fate_of_unended(self) -> str:
        """What becomes of answers without an end token, for the message that says so."""
        told = self._settings.missing_eos_reward
        return "get their own reward" if told == "own" else f"get a reward of {told:g}"

    def counters(self) -> dict[str, Any]:
        """What else must be kept between steps, JSON-ready."""
        return {}

    def go_on(self, counters: Mapping[str, Any]) -> None:
        """Take over what `counters` gave before an interruption."""

    # --- the run ------------------------------------------------------------------------------
    def run(self, prompts: Sequence[Prompt]) -> TrainResult:
        """Train to the end, or from the newest good checkpoint on when the context says so.

        Raises:
            PluginError: a reward function fails; what was learned before is saved.
            NumericalError: a score, loss or gradient is not finite.
        """
        settings, context = self._settings, self.context
        begun = time.monotonic()
        total = settings.max_steps or math.ceil(settings.epochs * len(prompts) / settings.batch_size)
        self.best.steps_per_epoch = len(prompts) / settings.batch_size
        updater = self.updater(total)
        checkpoints = Checkpoints(
            context, self.parts(), updater.optimizer, updater.scheduler, settings.save_total_limit
        )
        order = Order(len(prompts), settings.batch_size, context.seed)
        step, earlier = checkpoints.restore()
        self.tokens = earlier.get("tokens", 0)
        self.warned = earlier.get("warned", False)
        self.unended.update(earlier.get("unended", {}))
        self.endless = earlier.get("endless", 0)
        self.rewards = earlier.get("rewards", [])
        self.best.load_state(earlier.get("best", {}))
        self.go_on(earlier)
        for adapted in updater.adapters:
            adapted.begin(updater.total)
        each = f", {self.each} answers to each" if self.each > 1 else ""
        context.reporter.say(f"{len(prompts)} prompts, {settings.batch_size} of them a step{each}; dropout is off")
        metrics: dict[str, float] = dict(earlier.get("metrics", {}))
        stopped: int | None = None
        self._measure(step, total)  # where a signal came before it
        while step < total and self.best.ended is None:
            seed = context.seed * 1_000_003 + step + 1
            seed_everything(seed)  # a step draws the same wherever the run was interrupted
            batch = [prompts[index] for index in order.of_step(step + 1) for _ in range(self.each)]
            try:
                answers = self.answers.draw(batch, seed)
                try:
                    scores = self.answers.score(batch, answers)
                except TunesmithError:
                    checkpoints.save(step, self._progress(metrics))  # the policy is as the last step left it
                    raise
                experience = self.weigh(batch, answers, scores, step + 1)
            except Stopped as signal:
                stopped = signal.signal_number
                break
            if self._watch(batch, answers, step + 1):
                checkpoints.save(step, self._progress(metrics))
                raise self._never_ends(step + 1)
            if self.ends_before(experience, step + 1):
                total = step
                break
            rates = {"learning_rate": updater.scheduler.get_last_lr()[0]}
            metrics = {**updater.learn(experience.micros, step + 1, seed), **experience.metrics, **rates}
            step += 1
            self.tokens += experience.tokens
            self.learned(experience)
            self.rewards.append(float(scores.total.mean()))
            context.reporter.progress(step, total, metrics)
            better = self._measure(step, total)
            if better or context.stop or step == total or self._saves(step):
                checkpoints.save(step, self._progress(metrics), self.best.pinned(checkpoints.folder))
            if context.stop and step < total and self.best.ended is None:
                stopped = context.stop.signal_number
                break
        checkpoints.save(step, self._progress(metrics), self.best.pinned(checkpoints.folder))
        if stopped is None and (kept := self.best.chosen(checkpoints.folder, step)):
            checkpoints.put_back(kept)
        for row, count in self.unended.items():
            cut = f"an answer did not end within max_new_tokens = {settings.max_new_tokens}"
            context.ledger.truncate(row, cut, f"{count} answers" if count > 1 else "")
        seconds = time.monotonic() - begun - self.measuring
        return TrainResult(
            steps=step, total_steps=total, metrics=metrics, seconds=seconds, tokens=self.tokens, stopped=stopped
        )

    def _saves(self, step: int) -> bool:
        """Whether a checkpoint is due after `step`."""
        settings = self._settings
        if settings.saves_per_epoch is not None:
            return falls_on(step, settings.saves_per_epoch, self.best.steps_per_epoch)
        return step % (settings.save_steps or SAVE_STEPS) == 0

    def _measure(self, step: int, total: int) -> bool:
        """Measure after `step` where that is due; whether it is the best so far.

        The reward is the mean over the steps since the last measurement, whose answers were drawn before their updates.
        """
        if not self.rewards or self.context.stop or not self.best.due(step, total):
            return False
        begun = time.monotonic()
        mean = Measure(value=sum(self.rewards) / len(self.rewards), better="higher", n=len(self.rewards))
        better = self.best.measure(step, self.policy, {"reward": mean})
        if self.best.measured == step:
            self.rewards.clear()
        self.measuring += time.monotonic() - begun
        return better

    def _progress(self, metrics: Mapping[str, float]) -> dict[str, Any]:
        return {
            "tokens": self.tokens,
            "warned": self.warned,
            "unended": dict(self.unended),
            "endless": self.endless,
            "metrics": dict(metrics),
            **self._kept(),
            **self.counters(),
        }

    def _kept(self) -> dict[str, Any]:
        return {"rewards": list(self.rewards), "best": self.best.state()}

    def _watch(self, prompts: Sequence[Prompt], answers: Sequence[Sequence[int]], step: int) -> bool:
        """Count answers without an end, say once that they are many; whether it is time to give up."""
        ended = self.answers.ended(answers)
        without = [prompt.row for prompt, has_end in zip(prompts, ended, strict=True) if not has_end]
        share = len(without) / len(answers)
        self.unended.update(without)
        self.endless = self.endless + 1 if share == 1.0 else 0
        self.context.facts["ended"] = round(1.0 - share, 4)
        if share >= UNENDED and not self.warned:
            self.warned = True
            self.context.reporter.warn(
                f"{share:.0%} of the answers of step {step} do not end within max_new_tokens = "
                f"{self._settings.max_new_tokens} and {self.fate_of_unended()}: raise it, or tune the model on answers "
                "that end"
            )
        limit = self._settings.max_unended_steps
        return limit is not None and self.endless >= limit and self._settings.missing_eos_reward != "own"

    def _never_ends(self, step: int) -> RecipeError:
        settings = self._settings
        return RecipeError(
            f"no answer of the last {self.endless} steps, up to step {step}, ends within max_new_tokens = "
            f"{settings.max_new_tokens} and they {self.fate_of_unended()}: there is nothing to learn. Stopped before "
            "that step's update",
            where="[trainer] max_new_tokens",
            fix="Raise max_new_tokens, start from a model that was tuned on answers that end, have such answers scored "
            'with missing_eos_reward = "own", or allow more steps with max_unended_steps.',
        )
