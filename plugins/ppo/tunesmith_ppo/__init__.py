"""Proximal policy optimization of a language model against a reward model or a reward function."""

from __future__ import annotations

from collections.abc import Iterator

from tunesmith import Evaluator, Role, Trainer, hookimpl
from tunesmith.spec import RecordType
from tunesmith_ppo.settings import PolicyRewardSettings, PpoSettings

REQUIRES = ("torch", "transformers")
PROMPTS: tuple[RecordType, ...] = ("prompt", "prompt-completion", "messages", "preference", "unpaired-preference")


@hookimpl
def tunesmith_trainers() -> Iterator[Trainer]:
    """The trainer `ppo`."""
    yield Trainer(
        name="ppo",
        summary="Proximal policy optimization against a reward model or a reward function",
        factory="tunesmith_ppo.trainer:train",
        encode="tunesmith_transformers.online.rows:encode",
        show="tunesmith_transformers.online.rows:show",
        settings=PpoSettings,
        requires=REQUIRES,
        roles=(
            Role(name="policy", trainable=True, summary="answers, and learns"),
            Role(name="reference", default="policy:disabled", summary="what the policy shall stay near"),
            Role(name="reward", head="scalar", optional=True, summary="scores answers; or set `reward` in [trainer]"),
            Role(
                name="value",
                trainable=True,
                head="scalar",
                optional=True,
                summary="foresees the reward; by default a head on the policy's own hidden states",
            ),
        ),
        accepts=PROMPTS,
        check="tunesmith_transformers.online.check:check",
        fits="tunesmith_transformers.online.check:fits",
    )


@hookimpl
def tunesmith_evaluators() -> Iterator[Evaluator]:
    """What a policy's answers are worth, and how far they are from another policy's."""
    yield Evaluator(
        name="policy-reward",
        summary="Answers drawn to held-out prompts: their reward, divergence from a reference, length and ends",
        factory="tunesmith_ppo.measure:evaluate",
        measures=("reward", "reward/*", "kl", "length", "ended"),
        settings=PolicyRewardSettings,
        requires=REQUIRES,
        roles=(
            Role(name="reward", head="scalar", optional=True, summary="scores answers; or set `reward`"),
            Role(name="reference", optional=True, summary="what the divergence is measured from"),
        ),
        accepts=PROMPTS,
        check="tunesmith_transformers.online.check:check_scores",
    )
