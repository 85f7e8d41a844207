"""Settings that every trainer on its own answers shares. Light: imported by listing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from tunesmith import Ge, Gt, Settings
from tunesmith_transformers.training.settings import EvaluationSettings


@dataclass(frozen=True, kw_only=True)
class ScoreSettings(Settings):
    """What answers are scored by."""

    reward: str | tuple[str, ...] | None = None
    """What scores an answer, or a list: `exact-answer`, `format`, `length`, `model` (the role reward), or a function as
    `module:callable` or `./file.py:callable`; None takes the role reward."""
    reward_weights: tuple[float, ...] = ()
    """What each entry of reward is multiplied by before they are added; empty is 1 for each."""
    answer_column: str | None = None
    """Column with the right answer, for `exact-answer`; None takes the row's own completion."""
    answer_marker: str = "####"
    """What stands before the final answer, for `exact-answer`; empty takes the last number of a text."""
    format_pattern: str | None = None
    """Regular expression that must be found in an answer, for `format`; anchor it to match the whole of it."""
    length_min: Annotated[int, Ge(0)] = 0
    """Shortest answer without a penalty, in tokens with the end token, for `length`."""
    length_max: Annotated[int, Gt(0)] | None = None
    """Longest answer without a penalty, in tokens with the end token, for `length`; None has no such bound."""
    length_slack: Annotated[int, Gt(0)] = 16
    """Tokens outside these bounds over which the reward of `length` falls from 0 to -1."""


@dataclass(frozen=True, kw_only=True)
class OnlineSettings(EvaluationSettings, ScoreSettings):
    """How answers are drawn and learned from. One step is one batch of answers and all its updates."""

    learning_rate: Annotated[float, Ge(0)] = 1e-5
    """Peak learning rate of the policy."""
    epochs: Annotated[float, Gt(0)] = 1.0
    """Passes over the prompts; ignored when max_steps is set."""
    max_steps: Annotated[int, Gt(0)] | None = None
    """Steps, each with a new batch of answers; None follows epochs."""
    batch_size: Annotated[int, Gt(0)] = 64
    """Prompts answered a step."""
    micro_batch_size: Annotated[int, Gt(0)] = 8
    """Rows a forward pass, in answering, scoring and training: memory. Another size draws other answers."""
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
    max_unended_steps: Annotated[int, Gt(0)] | None = 10
    """Steps in a row in which no answer ends, so that there is nothing to learn, after which the run is refused; None
    goes on. Without effect where answers without an end get their own reward."""
    warmup_steps: Annotated[int, Ge(0)] = 0
    """Optimizer steps of linear warm-up."""
    lr_scheduler_type: str = "linear"
    """Schedule of the learning rate after warm-up, by Transformers' names (linear, cosine, constant, ...)."""
    min_learning_rate: Annotated[float, Gt(0)] | None = None
    """Where a schedule that falls comes to rest, such as a tenth of learning_rate; None is the schedule's own end."""
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
    save_steps: Annotated[int, Gt(0)] | None = None
    """Steps between checkpoints; None is 10, or what saves_per_epoch says. The last step is always saved."""
    saves_per_epoch: Annotated[int, Gt(0)] | None = None
    """Checkpoints in each pass over the prompts, evenly spread; in place of save_steps."""
    save_total_limit: Annotated[int, Gt(0)] = 2
    """Checkpoints kept."""
