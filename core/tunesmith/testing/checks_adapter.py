"""Checks of what an adapter does: each trains a tiny model for a moment and compares tensors.

What is compared bit by bit must be the same computation: training and resuming, saving and loading. What goes
another way to the same result (merging, accumulating) may differ by rounding.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tunesmith.adapted import Adapted
from tunesmith.errors import TunesmithError
from tunesmith.registry import Entry
from tunesmith.spec import Settings
from tunesmith.testing import checks_quantized
from tunesmith.testing import trial as tiny
from tunesmith.testing.checks_quantized import Quantized
from tunesmith.testing.checks_shared import shares_base
from tunesmith.testing.result import CheckResult, Failed, listed, run_check
from tunesmith.testing.trial import STEPS, Trial

#: Allowed difference of float32 logits or gradients, relative to the largest of them.
SAME = 1e-5
#: The same after merging, where the sums are made in another order.
MERGED = 1e-4
#: Files that may hold code; an artifact must hold none.
PICKLES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"}


def check(
    entry: Entry, settings: Settings, label: str, seen: set[str], quantized: Sequence[Quantized] = ()
) -> Iterator[CheckResult]:
    """All checks of one adapter with one set of settings.

    Args:
        seen: collects the settings that it reads.
        quantized: bases under the quantizers that are installed here.
    """
    with tempfile.TemporaryDirectory(prefix="tunesmith-check-") as folder, tiny.steady():
        trial = Trial(entry, settings, seen, Path(folder))
        adapts = run_check("adapts", label, lambda: _adapts(trial))
        yield adapts
        if not adapts.ok:  # the other checks would only say the same
            return
        if trial.record.identity:
            yield run_check("identity-at-start", label, lambda: _identity(trial))
        yield run_check("parameter-formula", label, lambda: _formula(trial))
        yield run_check("gradients-declared", label, lambda: _gradients(trial))
        yield run_check("accumulation", label, lambda: _accumulation(trial))
        yield run_check("checkpointing", label, lambda: _checkpointing(trial))
        yield from checks_quantized.check(trial, label, quantized)
        yield run_check("shares-base", label, lambda: shares_base(trial))
        training = Training(trial)
        trains = run_check("trains", label, training.run)
        yield trains
        if not trains.ok:
            return
        yield run_check("loss-falls", label, training.loss_falls)
        yield run_check("base-unchanged", label, training.base_unchanged)
        yield run_check("save-load-equal", label, training.save_load)
        yield run_check("resume-equal", label, training.resume)
        yield run_check("disabled-equals-base", label, training.disabled)
        if trial.record.merges:
            yield run_check("merge-equal", label, training.merge)


# --- before training --------------------------------------------------------------------------
def _adapts(trial: Trial) -> str:
    adapted = trial.fresh()
    moved = adapted.trainable()
    if not moved:
        raise Failed("it leaves nothing to train on a Llama: no parameter requires gradients")
    return f"{sum(p.numel() for p in moved.values()):,} trainable parameters in {len(moved)} tensors"


def _identity(trial: Trial) -> str:
    apart = tiny.distance(tiny.logits(trial.fresh().model, trial.batch), tiny.base_logits(trial.batch))
    if not apart <= SAME:
        raise Failed(f"before the first step the logits differ from the base model's by {apart:.1e} (relative)")
    return f"logits equal the base model's within {apart:.1e}"


def _formula(trial: Trial) -> str:
    if not trial.record.formula:
        return "no formula given"
    expected = trial.record.resolve("formula")(tiny.base_handle().model, trial.settings)
    counted = sum(p.numel() for p in trial.fresh().trainable().values())
    if counted != expected:
        raise Failed(f"the formula says {expected} trainable parameters, but there are {counted}")
    return f"{counted:,} parameters, as the formula says"


def _gradients(trial: Trial) -> str:
    adapted = trial.fresh()
    adapted.begin(STEPS)
    adapted.model.train()
    tiny.total_loss(adapted, trial.batch).backward()
    declared = adapted.trainable()
    known = {id(parameter) for parameter in declared.values()}
    stray = [n for n, p in adapted.model.named_parameters() if p.requires_grad and id(p) not in known]
    if stray:
        raise Failed(f"trainable() does not name {listed(stray)}, yet gradients are computed for it")
    idle = [name for name, parameter in declared.items() if parameter.grad is None]
    if idle:
        raise Failed(f"trainable() names {listed(idle)}, but the loss does not depend on it")
    return f"gradients on the {len(declared)} declared tensors and nowhere else"


def _accumulation(trial: Trial) -> str:
    whole = trial.fresh()
    parts = trial.fresh()
    for adapted, count in ((whole, 1), (parts, 2)):
        adapted.begin(STEPS)
        adapted.model.eval()  # dropout would differ between the two
        rows = len(trial.batch["input_ids"]) // count
        for start in range(0, rows * count, rows):
            part = {name: tensor[start : start + rows] for name, tensor in trial.batch.items()}
            (tiny.total_loss(adapted, part) / count).backward()
    name, apart = _furthest(tiny.gradients(parts), tiny.gradients(whole))
    if not apart <= MERGED:
        raise Failed(f"two half batches do not give the gradient of the whole batch: {name} differs by {apart:.1e}")
    return f"two half batches give the gradient of the whole one within {apart:.1e}"


def _checkpointing(trial: Trial) -> str:
    import torch

    plain, saving = trial.fresh(), trial.fresh()
    model = saving.handle.model
    # transformers 5 renamed it
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})
    if not trial.record.checkpointing:
        return _refuses(saving)
    found = []
    for adapted in (plain, saving):
        adapted.handle.model.config.use_cache = False
        torch.manual_seed(tiny.SEED)
        adapted.begin(STEPS)
        adapted.model.train()
        tiny.total_loss(adapted, trial.batch).backward()
        found.append(tiny.gradients(adapted))
    name, apart = _furthest(found[1], found[0])
    if not apart <= SAME:
        raise Failed(f"with activation checkpointing the gradient of {name} differs by {apart:.1e}")
    return f"the same gradients with activation checkpointing, within {apart:.1e}"


def _refuses(adapted: Adapted) -> str:
    """A method that cannot work with activation checkpointing must say so, not train something else."""
    try:
        adapted.begin(STEPS)
    except TunesmithError as error:
        return f"refused: {error.what}"
    raise Failed("its record says checkpointing=False, but begin() does not refuse activation checkpointing")


# --- after training ---------------------------------------------------------------------------
class Training:
    """One whole training, and what must hold after it."""

    def __init__(self, trial: Trial) -> None:
        self.trial = trial
        self.adapted: Adapted
        self.loss_before = 0.0
        self.base: dict[str, tuple[Any, Any]] = {}

    def run(self) -> str:
        """Train; the weights of the base are remembered as they were after adapting."""
        handle = tiny.base_handle()
        tensors = {**dict(handle.model.named_parameters()), **dict(handle.model.named_buffers())}
        self.adapted = self.trial.fresh(handle)
        moved = {id(parameter) for parameter in self.adapted.trainable().values()}
        # a quantizing or residual method may change the base when it is applied, but never afterwards
        self.base = {name: (t, t.detach().clone()) for name, t in tensors.items() if id(t) not in moved}
        self.loss_before = tiny.loss(self.adapted.model, self.trial.batch)
        self.adapted.begin(STEPS)
        self.trial.train(self.adapted, tiny.make_optimizer(self.adapted), 1, STEPS)
        return f"{STEPS} steps"

    def loss_falls(self) -> str:
        after = tiny.loss(self.adapted.model, self.trial.batch)
        if not after < self.loss_before:
            raise Failed(f"the loss went from {self.loss_before:.4f} to {after:.4f} in {STEPS} steps on one batch")
        return f"loss {self.loss_before:.4f} to {after:.4f} in {STEPS} steps"

    def base_unchanged(self) -> str:
        import torch

        changed = [name for name, (now, then) in self.base.items() if not torch.equal(now.detach(), then)]
        if changed:
            raise Failed(f"{listed(changed)} changed during training, but is not among the declared parameters")
        return f"{len(self.base)} tensors of the base are bit-equal after training"

    def save_load(self) -> str:
        import torch

        folder = self.trial.folder / "artifact"
        folder.mkdir()
        self.adapted.save(folder)
        files = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
        pickles = [name for name in files if Path(name).suffix in PICKLES]
        if pickles:
            raise Failed(f"it saves {listed(pickles)}, a format that can hold code; use safetensors and JSON")
        # whoever loads an artifact does not know the seed of the run that made it
        loaded = self.trial.fresh(seed=tiny.SEED + 1)
        loaded.load(folder)
        different = _different(loaded.trainable(), self.adapted.trainable())
        if different:
            raise Failed(f"after saving and loading, {listed(different)} is not what it was")
        ours, theirs = (tiny.logits(a.model, self.trial.batch) for a in (self.adapted, loaded))
        if not torch.equal(ours, theirs):
            raise Failed(
                f"after saving and loading, the logits differ by {tiny.distance(theirs, ours):.1e} (relative): "
                "something that is not a trained tensor is not saved"
            )
        return f"bit-equal logits after saving {listed(files)} and loading"

    def resume(self) -> str:
        import torch
        from safetensors.torch import load_file, save_file

        half, folder = self.trial.fresh(), self.trial.folder
        optimizer = tiny.make_optimizer(half)
        half.begin(STEPS)
        self.trial.train(half, optimizer, 1, STEPS // 2)
        save_file({n: t.detach().contiguous().clone() for n, t in half.state().items()}, folder / "state.safetensors")
        extra = json.dumps(half.extra_state())
        torch.save(optimizer.state_dict(), folder / "optimizer")

        again = self.trial.fresh()
        again.load_state(load_file(folder / "state.safetensors"))
        again.load_extra_state(json.loads(extra))
        optimizer = tiny.make_optimizer(again)
        optimizer.load_state_dict(torch.load(folder / "optimizer", weights_only=True))
        again.begin(STEPS)
        self.trial.train(again, optimizer, STEPS // 2 + 1, STEPS)
        different = _different(
            {**again.state(), **again.trainable()}, {**self.adapted.state(), **self.adapted.trainable()}
        )
        if different:
            raise Failed(f"resumed in the middle, {listed(different)} ends in other bits than uninterrupted")
        if again.extra_state() != self.adapted.extra_state():
            raise Failed("resumed in the middle, extra_state() ends otherwise than uninterrupted")
        return f"{STEPS // 2} + {STEPS // 2} steps end in the same bits as {STEPS}"

    def disabled(self) -> str:
        import torch

        trained = tiny.logits(self.adapted.model, self.trial.batch)
        try:
            with self.adapted.disabled() as model:
                inside = tiny.logits(model, self.trial.batch)
        except TunesmithError as error:
            return f"cannot be disabled: {error.what}"
        apart = tiny.distance(inside, tiny.base_logits(self.trial.batch))
        if not apart <= SAME:
            raise Failed(f"disabled, its logits differ from the base model's by {apart:.1e} (relative)")
        if not torch.equal(tiny.logits(self.adapted.model, self.trial.batch), trained):
            raise Failed("after the `disabled()` block the logits are not what they were before it")
        return f"disabled, it is the base model within {apart:.1e}"

    def merge(self) -> str:
        """Last of all, since it may change the model."""
        trained = tiny.logits(self.adapted.model, self.trial.batch)
        merged = self.adapted.merge()
        apart = tiny.distance(tiny.logits(merged, self.trial.batch), trained)
        if not apart <= MERGED:
            raise Failed(f"the merged model's logits differ from the unmerged one's by {apart:.1e} (relative)")
        left = sorted(set(merged.state_dict()) - set(tiny.base_model().state_dict()))
        if left:
            raise Failed(f"the merged model is not plain: it still holds {listed(left)}")
        return f"merged equals unmerged within {apart:.1e}"


# --- helpers ----------------------------------------------------------------------------------
def _furthest(found: dict[str, Any], expected: dict[str, Any]) -> tuple[str, float]:
    """The tensor that is furthest from what is expected, and how far, relative to the largest of all."""
    if set(found) != set(expected):
        return listed(sorted(set(found) ^ set(expected))), float("inf")
    scale = max((float(tensor.abs().max()) for tensor in expected.values()), default=0.0) or 1.0
    apart = {name: float((found[name] - tensor).abs().max()) / scale for name, tensor in expected.items()}
    return max(apart.items(), key=lambda item: item[1], default=("", 0.0))


def _different(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """Names of tensors that are missing, new, or not bit-equal."""
    import torch

    return sorted(
        name
        for name in {*found, *expected}
        if name not in found or name not in expected or not torch.equal(found[name].detach(), expected[name].detach())
    )
