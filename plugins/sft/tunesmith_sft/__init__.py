"""Supervised fine-tuning on TRL's SFTTrainer: text, prompt and completion, conversations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from tunesmith import Ge, Gt, Lt, Role, Trainer, hookimpl
from tunesmith_transformers.training.settings import TrainingSettings


@dataclass(frozen=True, kw_only=True)
class SftSettings(TrainingSettings):
    """Settings of supervised fine-tuning; the loss is over what the model shall produce."""

    supervise: Literal["answers", "all"] = "answers"
    """What is trained: the answers alone, or the prompts too, as of a text."""
    turns: Literal["all", "last"] = "all"
    """Which of a conversation's answers are trained: all of them, or the last one alone."""
    overlong: Literal["auto", "truncate", "drop", "chunk"] = "auto"  # type: ignore[assignment]
    """What becomes of rows longer than `max_length`: cut at the end, dropped, or cut into chunks of which each token is
    trained once; auto makes chunks of text and cuts other rows. All are counted in the ledger."""
    loss: Literal["nll", "dft"] = "nll"
    """nll is the negative log-likelihood; dft weighs each token's by the probability that the model gives it, so that
    what is unlikely is not forced (dynamic fine-tuning, Wu et al. 2025)."""
    label_smoothing: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Share of each token's target that is spread over the whole vocabulary; 0.1 is usual."""
    neftune_noise_alpha: Annotated[float, Gt(0)] | None = None
    """Noise on the embeddings while training (NEFTune, Jain et al. 2023); 5 is usual, None adds none."""
    packing: bool = False
    """Put several rows into one sequence of up to `max_length` tokens, without attention across rows; `batch_size` then
    counts sequences. A row's loss stays what it is."""


@hookimpl
def tunesmith_trainers() -> Iterator[Trainer]:
    """The trainer `sft`."""
    yield Trainer(
        name="sft",
        summary="Supervised fine-tuning on text, prompt and completion, or conversations",
        factory="tunesmith_sft.trainer:train",
        settings=SftSettings,
        requires=("torch", "transformers", "trl", "datasets"),
        roles=(Role(name="model", trainable=True),),
        accepts=("text", "prompt-completion", "messages"),
        arguments="trl.trainer.sft_config:SFTConfig",
        evaluators=("perplexity", {"use": "generate", "rows": 12, "max_new_tokens": 48, "samples": 3}),
        encode="tunesmith_sft.rows:encode",
        show="tunesmith_sft.rows:show",
        rate="learning_rate",
        check="tunesmith_sft.check:check",
        fits="tunesmith_transformers.training.limits:of_first",
        estimate="tunesmith_transformers.estimates.training_cost:training",
    )
