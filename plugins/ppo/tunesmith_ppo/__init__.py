"""Proximal policy optimization of a language model against a reward model or a reward function."""

from __future__ import annotations

from collections.abc import Iterator

from tunesmith import Role, Trainer, hookimpl
from tunesmith_ppo.settings import PpoSettings


@hookimpl
def tunesmith_trainers() -> Iterator[Trainer]:
    """The trainer `ppo`."""
    yield Trainer(
        name="ppo",
        summary="Proximal policy optimization against a reward model or a reward function",
        factory="tunesmith_ppo.trainer:train",
        settings=PpoSettings,
        requires=("torch", "transformers"),
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
        accepts=("prompt", "prompt-completion", "messages"),
        check="tunesmith_transformers.online.check:check",
    )
