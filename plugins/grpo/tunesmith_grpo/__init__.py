"""Learning from rewards relative to a group of answers to one prompt: GRPO and RLOO."""

from __future__ import annotations

from collections.abc import Iterator

from tunesmith import Role, Trainer, hookimpl
from tunesmith.spec import RecordType
from tunesmith_grpo.settings import GrpoSettings, RlooSettings

ROLES = (
    Role(name="policy", trainable=True, summary="answers, and learns"),
    Role(name="reference", default="policy:disabled", summary="what the policy shall stay near; unused with beta = 0"),
    Role(name="reward", head="scalar", optional=True, summary="scores answers; or set `reward` in [trainer]"),
)
ACCEPTS: tuple[RecordType, ...] = ("prompt", "prompt-completion", "messages")

#: Settings that the conformance kit tries.
tunesmith_examples = {
    name: {"reward": "length", "length_max": 4, "batch_size": 2, "num_generations": 2, "max_new_tokens": 8}
    for name in ("grpo", "rloo")
}


@hookimpl
def tunesmith_trainers() -> Iterator[Trainer]:
    """`grpo` and `rloo`."""
    yield Trainer(
        name="grpo",
        summary="Group relative policy optimization: rewards against the mean of a group of answers, no value model",
        factory="tunesmith_grpo.trainer:grpo",
        encode="tunesmith_transformers.online.rows:encode",
        show="tunesmith_transformers.online.rows:show",
        settings=GrpoSettings,
        requires=("torch", "transformers", "tunesmith_transformers"),
        roles=ROLES,
        accepts=ACCEPTS,
        check="tunesmith_grpo.check:grpo",
        fits="tunesmith_transformers.online.check:fits",
    )
    yield Trainer(
        name="rloo",
        summary="REINFORCE leave-one-out: each answer against the mean of the others, no value model",
        factory="tunesmith_grpo.trainer:rloo",
        encode="tunesmith_transformers.online.rows:encode",
        show="tunesmith_transformers.online.rows:show",
        settings=RlooSettings,
        requires=("torch", "transformers", "tunesmith_transformers"),
        roles=ROLES,
        accepts=ACCEPTS,
        check="tunesmith_transformers.online.check:check",
        fits="tunesmith_transformers.online.check:fits",
    )
