"""The reference: log-probabilities of a model that stays, computed beside each step or once before all of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from tunesmith import Adapted, Context, ModelHandle, RecipeError
from tunesmith.store import damage, make_once
from tunesmith_preference.settings import PreferenceSettings, ReferenceSettings
from tunesmith_transformers.tokens.batching import by_length, collate
from tunesmith_transformers.tokens.encoding import Encoded
from tunesmith_transformers.training.arguments import longest
from tunesmith_transformers.training.checkpoint import read_tensors, write_tensors
from tunesmith_transformers.training.losses import answer_logps

FILE = "logps.safetensors"
PROBED = 8  # rows by which a model is recognised
APART = 1e-3  # nats a token by which policy and reference may differ at the start and count as one model


class Reference:
    """The model that a policy is compared with: the policy with its adapter disabled, or one of its own.

    Args:
        adapted: the role `reference`.
        policy: the role `policy`.

    Raises:
        RecipeError: their tokenizers differ, so their log-probabilities are not of the same tokens.
    """

    def __init__(self, adapted: Adapted, policy: Adapted) -> None:
        self.adapted = adapted
        self.policy = policy
        ours, theirs = policy.handle.tokenizer, adapted.handle.tokenizer
        if theirs is not ours and theirs.get_vocab() != ours.get_vocab():
            raise RecipeError(
                f"the reference {adapted.handle.source} has another tokenizer than the policy {policy.handle.source}",
                fix="Name a reference of the same family, or leave [models.reference] out.",
            )

    def logps(self, inputs: Mapping[str, Any]) -> torch.Tensor:
        """The summed log-probability of each row's supervised tokens (B,); `inputs` as `collate` makes them."""
        own = {"input_ids", "attention_mask", "labels", *self.adapted.handle.columns}
        with self.adapted.use() as model:
            return _measured(model, {name: value for name, value in inputs.items() if name in own})

    def of_policy(self, inputs: dict[str, Any]) -> torch.Tensor:
        """The same under the policy as it is now (B,), without gradients."""
        return _measured(self.policy.model, inputs)

    def precomputed(self, rows: Sequence[Encoded], batch_size: int, context: Context) -> torch.Tensor:
        """The same for all rows (N,), from the cache where it was computed before.

        What is kept is named by the rows' tokens, the reference's weights as stored, and its own log-probabilities of
        some rows, which tell merged and tuned models of one base apart.
        """
        batches = by_length([len(row.ids) for row in rows], batch_size)
        probe = self._batch(rows[:PROBED])
        digest = hashlib.sha256(f"{self.adapted.handle.digest} {self.adapted.handle.quantized}".encode())
        digest.update(probe.numpy().tobytes())
        for row in rows:
            digest.update(repr((row.ids, row.supervised, *sorted(row.columns.items()))).encode())
        target = context.cache / "reference" / digest.hexdigest()[:32]

        def build(folder: Path) -> None:
            context.reporter.say(f"computing the reference's log-probabilities of {len(rows)} answers, once")
            values = torch.zeros(len(rows))
            for number, batch in enumerate(batches, 1):
                context.check_stop("reference")
                values[batch] = self._batch([rows[index] for index in batch])
                context.reporter.progress(number, len(batches), {})
            write_tensors(folder / FILE, {"logps": values})

        if not target.is_dir() or damage(target):
            make_once(target, build, say=context.reporter.say)
        return read_tensors(target / FILE)["logps"].clone()  # what is read stays tied to the file

    def check_start(self, rows: Sequence[Encoded], context: Context) -> None:
        """Say so when the policy does not start at its reference: the losses are then not what they seem."""
        rows = rows[:PROBED]
        inputs = self._inputs(rows)
        gap = (self.of_policy(inputs) - self.logps(inputs)).abs().sum()
        apart = float(gap) / sum(sum(row.supervised) for row in rows)
        context.facts["reference"] = {"nats_a_token_from_the_policy_at_the_start": apart}
        if apart > APART:
            context.reporter.warn(
                f"the policy does not start at its reference: they differ by {apart:.3g} nats a token, because "
                "[models.reference] names another model, or the adapter does not start as the identity"
            )

    def _batch(self, rows: Sequence[Encoded]) -> torch.Tensor:
        return self.logps(self._inputs(rows)).cpu()

    def _inputs(self, rows: Sequence[Encoded]) -> dict[str, torch.Tensor]:
        device = next(self.policy.model.parameters()).device
        inputs = collate(rows, self.policy.handle.tokenizer.pad_token_id)
        return {name: tensor.to(device) for name, tensor in inputs.items()}


def reference_of(models: Mapping[str, Adapted], rows: Sequence[Encoded], context: Context) -> Reference | None:
    """The reference, where the trainer has that role, compared with the policy at the start."""
    if "reference" not in models:
        return None
    reference = Reference(models["reference"], models["policy"])
    reference.check_start(rows, context)
    return reference


def known(
    reference: Reference | None, rows: Sequence[Encoded], settings: PreferenceSettings, context: Context
) -> list[float] | None:
    """The reference's log-probability of each row, where the settings want it before training."""
    if reference is None or not isinstance(settings, ReferenceSettings) or not settings.precompute_reference:
        return None
    return reference.precomputed(rows, settings.batch_size, context).tolist()


def limit_of(handles: Mapping[str, ModelHandle], settings: PreferenceSettings) -> int | None:
    """The longest row that policy and reference take, in tokens.

    Raises:
        RecipeError: `max_length` is more.
    """
    limits = [handle.max_length for handle in handles.values() if handle.max_length is not None]
    return longest(settings, min(limits, default=None))


def _measured(model: Any, inputs: dict[str, Any]) -> torch.Tensor:
    """Log-probabilities (B,) without dropout and gradients; the training mode is put back."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            return answer_logps(model, inputs)[0]
    finally:
        model.train(training)
