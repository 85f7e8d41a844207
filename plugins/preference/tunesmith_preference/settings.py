"""Settings of the trainers. Light: imported by listing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from tunesmith import Ge, Gt, Interval, MinLen, Settings
from tunesmith_transformers.training.settings import TrainingSettings

#: The losses on pairs, by TRL's names.
DpoLoss = Literal[
    "sigmoid",
    "hinge",
    "ipo",
    "exo_pair",
    "nca_pair",
    "robust",
    "bco_pair",
    "sppo_hard",
    "aot",
    "aot_unpaired",
    "apo_zero",
    "apo_down",
    "discopop",
    "sft",
    "sigmoid_norm",
]


@dataclass(frozen=True, kw_only=True)
class PreferenceSettings(TrainingSettings):
    """What every trainer of this plugin takes."""

    learning_rate: Annotated[float, Ge(0)] = 1e-5
    """Peak learning rate; an adapter takes about 1e-5 to 1e-4, a whole model about 1e-6."""
    turns: Literal["all", "last"] = "all"
    """Which turns of an answer of several are compared: all of the assistant's, or the last alone. Where the chat
    template rewrites earlier turns it is always the last, and the ledger says so."""
    disable_dropout: bool = True
    """Train without dropout, the adapter's included, so that policy and reference are compared without noise."""


def one_or_last(settings: PreferenceSettings) -> str:
    """`turns` as rows are encoded that have one answer, which must be one sequence."""
    return "one" if settings.turns == "all" else settings.turns


@dataclass(frozen=True, kw_only=True)
class ReferenceSettings(PreferenceSettings):
    """What the trainers with a reference take."""

    beta: Annotated[float, Gt(0)] = 0.1
    """How strongly the policy is held to the reference; higher is nearer."""
    precompute_reference: bool = False
    """Compute the reference's log-probabilities once, before training, and keep them in the cache by content."""


@dataclass(frozen=True, kw_only=True)
class DpoSettings(ReferenceSettings):
    """Direct preference optimization."""

    loss_type: DpoLoss | Annotated[tuple[DpoLoss, ...], MinLen(1)] = "sigmoid"
    """The loss on each pair, by TRL's names, or several that are added."""
    loss_weights: tuple[float, ...] = ()
    """Weight of each loss when there are several; empty weighs each with 1."""
    label_smoothing: Annotated[float, Interval(ge=0, lt=0.5)] = 0.0
    """Share of the pairs that are taken to be the wrong way round; read by robust, exo_pair, aot and aot_unpaired."""
    discopop_tau: Annotated[float, Gt(0)] = 0.05
    """Temperature of the blend in discopop."""


@dataclass(frozen=True, kw_only=True)
class IpoSettings(ReferenceSettings):
    """Identity preference optimization; beta is the paper's tau."""


@dataclass(frozen=True, kw_only=True)
class KtoSettings(ReferenceSettings):
    """Kahneman-Tversky optimization on answers that are wanted or unwanted."""

    loss_type: Literal["kto", "apo_zero_unpaired"] = "kto"
    """kto compares with the mean drift of the batch; apo_zero_unpaired with none (APO: D'Oosterlinck et al. 2024)."""
    group_by_length: bool = False
    """Batches hold rows of like length; off here, since wanted and unwanted answers often differ in length, and a
    batch should hold both."""
    desirable_weight: Annotated[float, Gt(0)] = 1.0
    """Weight of the wanted answers; raise it when they are few."""
    undesirable_weight: Annotated[float, Gt(0)] = 1.0
    """Weight of the unwanted answers; raise it when they are few."""


@dataclass(frozen=True, kw_only=True)
class OrpoSettings(PreferenceSettings):
    """Odds ratio preference optimization."""

    beta: Annotated[float, Gt(0)] = 0.1
    """Weight of the odds-ratio term, the paper's lambda."""
    prompt_loss: bool = False
    """The likelihood term covers the prompt too, as TRL's does; else the chosen answer alone."""


@dataclass(frozen=True, kw_only=True)
class CpoSettings(PreferenceSettings):
    """Contrastive preference optimization."""

    beta: Annotated[float, Gt(0)] = 0.1
    """Scale of the log-probabilities in the loss."""
    loss_type: Literal["sigmoid", "hinge", "ipo"] = "sigmoid"
    """The loss on each pair, by TRL's names."""
    label_smoothing: Annotated[float, Interval(ge=0, lt=0.5)] = 0.0
    """Share of the pairs that are taken to be the wrong way round; read by sigmoid."""
    cpo_alpha: Annotated[float, Ge(0)] = 1.0
    """Weight of the negative log-likelihood of the chosen answers."""


@dataclass(frozen=True, kw_only=True)
class SimpoSettings(PreferenceSettings):
    """Simple preference optimization."""

    beta: Annotated[float, Gt(0)] = 2.0
    """Scale of the mean log-probability of an answer's tokens; the paper takes 2 to 10."""
    simpo_gamma: Annotated[float, Ge(0)] = 1.0
    """Margin by which the chosen answer's reward must be ahead; the paper takes 0.3 to 1.6."""
    label_smoothing: Annotated[float, Interval(ge=0, lt=0.5)] = 0.0
    """Share of the pairs that are taken to be the wrong way round."""
    cpo_alpha: Annotated[float, Ge(0)] = 0.0
    """Weight of the negative log-likelihood of the chosen answers (CPO-SimPO)."""


@dataclass(frozen=True, kw_only=True)
class AccuracySettings(Settings):
    """How a policy's own order of held-out answers is measured."""

    rows: Annotated[int, Gt(0)] | None = None
    """Held-out pairs to measure, evenly spread over all of them; None measures all."""
    batch_size: Annotated[int, Gt(0)] = 16
    """Pairs a forward pass."""
    max_length: Annotated[int, Gt(0)] | None = None
    """Longest prompt with an answer, in tokens; None takes what the model takes."""
