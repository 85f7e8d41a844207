"""Settings of the trainer `ppo`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from tunesmith import Ge, Gt, Le
from tunesmith_transformers.online.settings import OnlineSettings, ScoreSettings


@dataclass(frozen=True, kw_only=True)
class PpoSettings(OnlineSettings):
    """How answers are drawn, rewarded and learned from. One step is one batch of answers and all its updates."""

    value_learning_rate: Annotated[float, Ge(0)] | None = None
    """Peak learning rate of the value head or model; None takes learning_rate."""
    num_ppo_epochs: Annotated[int, Gt(0)] = 4
    """Passes over the answers of a step."""
    center_rows: Annotated[int, Ge(0)] = 64
    """Rows whose own (chosen, wanted) answers the reward model scores first; their mean is taken off every score of
    it. Rows without answers, and 0, leave its scores as they are."""
    kl_coef: Annotated[float, Ge(0)] = 0.05
    """Price of one nat of divergence from the reference, in units of the reward; where the adaptive one starts."""
    kl_control: Literal["fixed", "adaptive"] = "fixed"
    """Whether the coefficient stays, or follows the divergence so that it comes to kl_target."""
    kl_target: Annotated[float, Gt(0)] = 6.0
    """Divergence that the adaptive coefficient aims at, in nats an answer."""
    kl_gain: Annotated[float, Ge(0)] = 0.1
    """How fast the adaptive coefficient follows: its largest change a step is 0.2 times this."""
    max_kl: Annotated[float, Gt(0)] | None = None
    """Training ends when the answers of a step have diverged by more than this, in nats an answer; None never."""
    target_kl: Annotated[float, Gt(0)] | None = None
    """A step's further updates are left out when one has moved the policy by more than this, in nats a token."""
    gamma: Annotated[float, Ge(0), Le(1)] = 1.0
    """Discount of later rewards, a token."""
    lam: Annotated[float, Ge(0), Le(1)] = 0.95
    """Lambda of generalized advantage estimation: 0 trusts the value model, 1 the rewards."""
    whiten_rewards: bool = False
    """Scale the rewards of a batch, divergence included, to unit variance; their mean stays."""
    whiten_advantages: bool = True
    """Shift and scale the advantages of a batch to mean 0 and variance 1."""
    cliprange: Annotated[float, Ge(0)] = 0.2
    """How far the probability ratio of a token may leave 1 before its loss is flat."""
    cliprange_value: Annotated[float, Ge(0)] = 0.2
    """How far a value may leave the one of its rollout before its loss is flat."""
    vf_coef: Annotated[float, Ge(0)] = 0.1
    """Weight of the value loss."""
    value_gradient: bool = False
    """Whether the loss of a value head on the policy's hidden states moves the policy too."""


@dataclass(frozen=True, kw_only=True)
class PolicyRewardSettings(ScoreSettings):
    """How a policy's answers to held-out prompts are drawn and scored."""

    rows: Annotated[int, Gt(0)] | None = None
    """Held-out prompts to answer, evenly spread over all different ones; None answers all."""
    answers: Annotated[int, Gt(0)] = 1
    """Answers drawn to each prompt."""
    batch_size: Annotated[int, Gt(0)] = 16
    """Answers drawn and scored at once. Another size draws other answers."""
    max_new_tokens: Annotated[int, Gt(0)] = 64
    """Longest answer, in tokens; a prompt that leaves no room for it in the model's context is left out."""
    temperature: Annotated[float, Gt(0)] = 0.7
    """Tokens are drawn from softmax(logits / temperature); the divergence is that of these distributions."""
    samples: Annotated[int, Ge(0)] = 5
    """Prompts to return with an answer, spread evenly over those answered; the same before and after."""
