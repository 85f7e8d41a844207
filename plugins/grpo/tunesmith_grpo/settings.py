"""Settings of the trainers `grpo` and `rloo`, by TRL's names where it has one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from tunesmith import Ge, Gt
from tunesmith_transformers.online.settings import OnlineSettings


@dataclass(frozen=True, kw_only=True)
class GroupSettings(OnlineSettings):
    """What both share: several answers to each prompt, compared with each other."""

    batch_size: Annotated[int, Gt(0)] = 8
    """Prompts answered a step, each num_generations times."""
    num_generations: Annotated[int, Ge(2)] = 8
    """Answers to each prompt: the group that a reward is compared with."""
    num_iterations: Annotated[int, Gt(0)] = 1
    """Passes over the answers of a step."""
    temperature: Annotated[float, Gt(0)] = 1.0
    """Tokens are drawn from softmax(logits / temperature); every log-probability is of this distribution."""
    missing_eos_reward: float | Literal["own"] = "own"
    """Reward of an answer that does not end within max_new_tokens, in place of its own; "own" leaves that."""
    mask_truncated_completions: bool = False
    """Leave answers that do not end within max_new_tokens out of the loss; they still count in their group."""
    epsilon: Annotated[float, Ge(0)] = 0.2
    """How far the probability ratio may fall below 1, and rise above it, before the loss is flat."""
    epsilon_high: Annotated[float, Ge(0)] | None = None
    """How far it may rise above 1; None takes epsilon."""
    adam_epsilon: Annotated[float, Gt(0)] = 1e-8
    """AdamW's epsilon."""


@dataclass(frozen=True, kw_only=True)
class GrpoSettings(GroupSettings):
    """Group relative policy optimization."""

    beta: Annotated[float, Ge(0)] = 0.04
    """Weight of the divergence from the reference in the loss, a token; with 0 the reference is not computed."""
    use_bias_correction_kl: bool = True
    """Multiply the divergence by the ratio, so that its gradient is that of the divergence from the reference; false is
    the paper's own."""
    loss_type: Literal["grpo", "dapo", "dr_grpo", "cispo"] = "grpo"
    """How tokens are summed: mean by answer and then over answers, mean over all tokens, sum over max_new_tokens; or
    CISPO, which bounds the ratio at epsilon_high and keeps every token's gradient."""
    scale_rewards: Literal["group", "batch", "none"] = "group"
    """Divide a group's centred rewards by its own standard deviation, by that of the step, or by nothing."""
    importance_sampling_level: Literal["token", "sequence"] = "token"
    """Whether the ratio is each token's, or the geometric mean of its answer's (GSPO)."""


@dataclass(frozen=True, kw_only=True)
class RlooSettings(GroupSettings):
    """REINFORCE leave-one-out."""

    beta: Annotated[float, Ge(0)] = 0.05
    """Price of one nat of an answer's divergence from the reference, in units of the reward."""
    normalize_advantages: bool = False
    """Shift and scale the advantages of a step to mean 0 and variance 1."""
