"""Settings of the trainer `ppo`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from tunesmith import Ge, Gt, Le, Settings


@dataclass(frozen=True, kw_only=True)
class PpoSettings(Settings):
    """How answers are drawn, rewarded and learned from. One step is one batch of answers and all its updates."""

    reward: str | None = None
    """Reward function: `module:callable`, or `./file.py:callable` beside the recipe; None takes the role reward."""
    learning_rate: Annotated[float, Ge(0)] = 1e-5
    """Peak learning rate of the policy."""
    value_learning_rate: Annotated[float, Ge(0)] | None = None
    """Peak learning rate of the value head or model; None takes learning_rate."""
    epochs: Annotated[float, Gt(0)] = 1.0
    """Passes over the prompts; ignored when max_steps is set."""
    max_steps: Annotated[int, Gt(0)] | None = None
    """Steps, each with a new batch of answers; None follows epochs."""
    batch_size: Annotated[int, Gt(0)] = 64
    """Prompts answered a step."""
    micro_batch_size: Annotated[int, Gt(0)] = 8
    """Rows a forward pass, in answering, scoring and training: memory. Another size draws other answers."""
    num_ppo_epochs: Annotated[int, Gt(0)] = 4
    """Passes over the answers of a step."""
    num_mini_batches: Annotated[int, Gt(0)] = 1
    """Optimizer steps a pass; more than there are micro-batches is as many as those."""
    max_new_tokens: Annotated[int, Gt(0)] = 64
    """Longest answer, in tokens."""
    max_length: Annotated[int, Gt(0)] | None = None
    """Longest prompt with its answer, in tokens; None takes what the model takes. Longer rows are dropped."""
    temperature: Annotated[float, Gt(0)] = 0.7
    """Tokens are drawn from softmax(logits / temperature); every log-probability is of this distribution."""
    missing_eos_reward: float | Literal["own"] = -1.0
    """Reward of an answer that does not end within max_new_tokens, in place of its own; "own" leaves that."""
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
    warmup_steps: Annotated[int, Ge(0)] = 0
    """Optimizer steps of linear warm-up."""
    lr_scheduler_type: str = "linear"
    """Schedule of the learning rate after warm-up, by Transformers' names (linear, cosine, constant, ...)."""
    weight_decay: Annotated[float, Ge(0)] = 0.0
    """AdamW's weight decay."""
    adam_epsilon: Annotated[float, Gt(0)] = 1e-5
    """AdamW's epsilon."""
    max_grad_norm: Annotated[float, Ge(0)] = 1.0
    """Gradients are scaled down to this norm; 0 leaves them."""
    optim: str = "adamw_torch"
    """Optimizer, by Transformers' names (adamw_torch, adamw_8bit, paged_adamw_32bit, ...)."""
    optim_unavailable: Literal["replace", "stop"] = "replace"
    """Where a paged optimizer cannot run (no GPU): use the same one unpaged, which the plan names, or stop."""
    save_steps: Annotated[int, Gt(0)] = 10
    """Steps between checkpoints; the last step is always saved."""
    save_total_limit: Annotated[int, Gt(0)] = 2
    """Checkpoints kept."""
