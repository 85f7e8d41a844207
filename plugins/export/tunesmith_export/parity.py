"""How far one model's predictions are from another's on the same rows: of tokens, of labels, or of scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from tunesmith_export.settings import MergeSettings
from tunesmith_transformers.loading.heads import at_last, head_outputs
from tunesmith_transformers.tokens.batching import by_length, collate
from tunesmith_transformers.tokens.encoding import IGNORED, Encoded
from tunesmith_transformers.training.losses import output_head, selected_positions


@dataclass(frozen=True)
class Predictions:
    """What a model predicts at some places.

    Args:
        logps: log-probabilities (N, V) in float32, on the CPU: of tokens or labels; two columns, not given and given,
            for each label where a text may have several.
        loss: mean negative log-likelihood of the tokens that the data hold there, in nats; None for labels and scores.
        scores: instead of log-probabilities, what a model of scores gives (N,).
    """

    logps: torch.Tensor
    loss: float | None = None
    scores: torch.Tensor | None = None


@dataclass(frozen=True)
class Distance:
    """How far a model is from a reference.

    Args:
        kl: mean over places of KL(reference || model), in nats.
        agreement: share of places at which both hold the same token or label for the likeliest.
        agreeing, compared: the places at which they do, and all of them.
        largest: the largest difference of a probability.
        unit: what is predicted: token or label.
    """

    kl: float
    agreement: float
    agreeing: int
    compared: int
    largest: float
    unit: str = "token"

    def within(self, settings: MergeSettings) -> bool:
        """Whether KL and agreement are within the limits; never when one is no number."""
        return self.kl <= settings.max_kl and self.agreement >= settings.min_agreement

    def limits(self, settings: MergeSettings) -> str:
        """The limits in words."""
        return f"KL {settings.max_kl:g}, {settings.min_agreement:.1%}"

    def __str__(self) -> str:
        most = f"the same likeliest {self.unit} at {self.agreement:.1%} ({self.agreeing:,} of {self.compared:,})"
        return f"KL {self.kl:.3g} nats a {self.unit}, {most}, probabilities at most {self.largest:.2g} apart"


@dataclass(frozen=True)
class ScoreDistance:
    """How far a model of scores is from a reference.

    Args:
        largest: the largest difference of a score.
        share: the same as a share of the root mean square of the reference's scores.
        compared: scores.
    """

    largest: float
    share: float
    compared: int

    def within(self, settings: MergeSettings) -> bool:
        """Whether the difference is within its limit; never when it is no number."""
        return self.share <= settings.max_difference

    def limits(self, settings: MergeSettings) -> str:
        """The limit in words."""
        return f"{settings.max_difference:.1%} of their size"

    def __str__(self) -> str:
        return f"{self.compared:,} scores at most {self.largest:.3g} apart, {self.share:.2%} of their size"


def predictions(
    model: Any, rows: Sequence[Encoded], pad: int, batch_size: int, head: str = "causal-lm", several: bool = False
) -> Predictions:
    """What `model` predicts on `rows`, in an order that depends on the rows alone.

    Args:
        head: the model's; a language model predicts at the supervised positions.
        several: whether a text may have several labels.
    """
    model.eval()
    found, losses = [], []
    with torch.inference_mode():
        for batch in by_length([len(row.ids) for row in rows], batch_size):
            inputs = collate([rows[index] for index in batch], pad)
            labels = inputs.pop("labels")  # (B, T)
            inputs = {name: tensor.to(model.device) for name, tensor in inputs.items()}
            if head != "causal-lm":
                found.append(_outputs(model, inputs, head, several).cpu())
                continue
            wanted = torch.zeros_like(labels, dtype=torch.bool)
            wanted[:, :-1] = labels[:, 1:] != IGNORED  # position t predicts token t + 1
            with selected_positions(output_head(model), wanted):
                logits = model(**inputs, use_cache=False).logits[0]  # (N, V)
            found.append(torch.log_softmax(logits.float(), dim=-1).cpu())
            targets = labels[:, 1:][labels[:, 1:] != IGNORED]  # (N,)
            losses.append(-found[-1].gather(1, targets[:, None])[:, 0])
    values = torch.cat(found)
    if values.dim() == 1:
        return Predictions(values[:, None], scores=values)
    return Predictions(values, float(torch.cat(losses).double().mean()) if losses else None)


def _outputs(model: Any, inputs: dict[str, torch.Tensor], head: str, several: bool) -> torch.Tensor:
    """What a head gives: scores (N,), or log-probabilities (N, L) of labels."""
    mask = inputs["attention_mask"]
    if head == "none":
        return model(**inputs)[0][:, -mask.shape[1] :][mask.bool()].float().flatten()
    outputs = head_outputs(model, inputs)  # (B, T', L) or (B, L)
    if head == "token-labels":
        return functional.log_softmax(outputs[:, -mask.shape[1] :][mask.bool()], dim=-1)
    outputs = at_last(outputs[:, -mask.shape[1] :] if outputs.dim() == 3 else outputs, mask)  # (B, L)
    if head == "scalar":
        return outputs[:, 0]
    if several:
        return torch.stack((functional.logsigmoid(-outputs), functional.logsigmoid(outputs)), -1).flatten(0, 1)
    return functional.log_softmax(outputs, dim=-1)


def distance(reference: Predictions, model: Predictions, unit: str = "token") -> Distance | ScoreDistance:
    """How far `model` is from `reference`; both at the same places.

    Args:
        unit: what is predicted: token or label.
    """
    if reference.scores is not None and model.scores is not None:
        largest = float((reference.scores - model.scores).abs().double().max())
        size = float(reference.scores.double().square().mean().sqrt())
        return ScoreDistance(largest, largest / size if size else largest, len(reference.scores))
    kl = largest = 0.0
    agreeing = total = 0
    for p, q in zip(reference.logps.split(256), model.logps.split(256), strict=True):  # (256, V)
        kl += float(functional.kl_div(q, p, reduction="sum", log_target=True).double())
        agreeing += int((p.argmax(-1) == q.argmax(-1)).sum())
        largest = max(largest, float((p.exp() - q.exp()).abs().max()))
        total += len(p)
    kl = max(kl, 0.0)  # the same predictions may sum to a little less, by rounding
    if not bool(torch.isfinite(model.logps.exp()).all()) or not math.isfinite(model.loss or 0.0):
        kl = math.nan  # a NaN may hide behind a zero probability
    return Distance(kl / total, agreeing / total, agreeing, total, largest, unit)
