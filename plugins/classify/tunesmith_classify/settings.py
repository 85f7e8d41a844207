"""Settings of the classifiers and their evaluators. Light: imported by listing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from tunesmith import Ge, Gt, Interval, Lt, MinLen, Settings
from tunesmith_transformers.training.settings import TrainingSettings


@dataclass(frozen=True, kw_only=True)
class TagSettings(TrainingSettings):
    """Classification of words, and what classification of texts shares with it."""

    learning_rate: Annotated[float, Ge(0)] = 1e-4
    """Peak learning rate; an adapter takes about 1e-4 to 1e-3, a whole encoder about 2e-5 to 2e-4."""
    epochs: Annotated[float, Gt(0)] = 3.0
    """Passes over the training rows; ignored when max_steps is set."""
    batch_size: Annotated[int, Gt(0)] = 32
    """Rows a device and forward pass."""
    class_weights: Literal["none", "balanced"] | Mapping[str, Annotated[float, Gt(0)]] = "none"
    """How much each label counts in the loss: all alike, rare ones more (`balanced`, as scikit-learn has it: rows
    over labels times rows of the label; with several labels a text, rows without the label over those with it, and 1
    for a label on every row or none), or a table from labels to weights, 1 where it names none."""
    sample_weight: str | None = None
    """Column that says how much each row counts in the loss; None takes `weight` where rows have it, as the step
    `balance` writes it, and else counts all alike. The terms of r_drop and contrastive count them alike in any case."""
    label_smoothing: Annotated[float, Ge(0), Lt(1)] = 0.0
    """Share of the target that is spread over all labels; 0.1 is usual."""
    head_learning_rate: Annotated[float, Ge(0)] | None = None
    """Peak learning rate of the new head, which starts at random; None takes learning_rate."""
    layer_decay: Annotated[float, Gt(0), Interval(le=1)] = 1.0
    """Each block's learning rate is that of the block above times this, the embeddings' lowest; 1 treats all alike."""
    disable_dropout: bool = False
    """Train without dropout, the adapter's included."""

    @property
    def twice(self) -> bool:
        """Whether each row is passed twice, with other dropout."""
        return False


@dataclass(frozen=True, kw_only=True)
class ClassifySettings(TagSettings):
    """Classification of texts."""

    r_drop: Annotated[float, Ge(0)] = 0.0
    """Weight of the divergence between two passes with other dropout (R-Drop); doubles the work. 0.5 to 5 is usual."""
    contrastive: Annotated[float, Ge(0)] = 0.0
    """Weight of the supervised contrastive loss on what the head reads: texts of one label come near each other."""
    contrastive_temperature: Annotated[float, Gt(0)] = 0.1
    """Temperature of the contrastive loss; lower looks at the nearest texts only."""

    @property
    def twice(self) -> bool:
        """Whether each text is passed twice, with other dropout."""
        return self.r_drop > 0 or self.contrastive > 0


@dataclass(frozen=True, kw_only=True)
class MeasureSettings(Settings):
    """What the measures of labels share."""

    rows: Annotated[int, Gt(0)] | None = None
    """Held-out rows to measure, evenly spread over all of them; None measures all."""
    bins: Annotated[int, Gt(0)] = 10
    """Bins of equal width between 0 and 1 in which confidence is compared with accuracy."""
    confusions: Annotated[int, Ge(0)] = 20
    """Most frequent confusions to list."""
    samples: Annotated[int, Ge(0)] = 5
    """Wrongly labelled rows to show, the surest first."""


@dataclass(frozen=True, kw_only=True)
class ClassificationSettings(MeasureSettings):
    """How a classifier is measured."""

    batch_size: Annotated[int, Gt(0)] = 64
    """Rows a forward pass."""
    max_length: Annotated[int, Gt(0)] | None = None
    """Longest row, in tokens; longer ones are cut. None takes what the model takes."""
    threshold: Annotated[float, Interval(gt=0, lt=1)] = 0.5
    """Probability from which a label counts as given, where a text may have several."""


@dataclass(frozen=True, kw_only=True)
class LikelihoodSettings(MeasureSettings):
    """How a language model is asked for labels."""

    prompt: Annotated[str, MinLen(1)] = (
        "Classify the text.\nLabels: {labels}\n\nText: {text}\n\nAnswer with the label only."
    )
    """What is asked of a text with a label; `{text}` and `{labels}` are filled in. Rows with a prompt ask that."""
    verbalizer: Mapping[str, Annotated[str, MinLen(1)]] = field(default_factory=dict)
    """What a label is written as in prompt and answer: {1 = "positive"}. Others are written as they are named, with
    blanks for underscores. Answers of rows with a prompt are taken as they stand."""
    normalize: Literal["none", "tokens", "prior"] = "none"
    """How labels of unlike length or frequency are compared: by the log-probability of the whole label, by its mean a
    token, or by what it gains over a prompt without the text (domain-conditional PMI)."""
    chat: bool = True
    """Ask as a conversation where the tokenizer has a chat template."""
    batch_size: Annotated[int, Gt(0)] = 32
    """Labels a forward pass."""
