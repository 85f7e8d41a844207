"""Does an adapter work over a quantized base? Tried with every quantizer that is installed here.

A method that needs dense weights passes when it says so; what it must not do is train something else, or change
the quantized weights.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.adapted import ModelHandle
from tunesmith.artifact import Line, load_base
from tunesmith.context import Context
from tunesmith.errors import RecipeError, TunesmithError
from tunesmith.plan import Use
from tunesmith.recipe import Recipe, check_settings
from tunesmith.registry import Entry, Registry
from tunesmith.spec import Model
from tunesmith.testing import trial as tiny
from tunesmith.testing.result import CheckResult, Failed, listed, run_check
from tunesmith.testing.tiny import tiny_folder
from tunesmith.testing.trial import STEPS, Trial

#: Allowed difference of logits between the disabled adapter and the quantized base, relative to the largest of them.
SAME = 1e-5


@dataclass(frozen=True)
class Quantized:
    """The tiny model as one quantizer makes it.

    Args:
        name: the quantizer's.
        handle: loads it; the copy may be changed.
    """

    name: str
    handle: Callable[[], ModelHandle]


def bases(registry: Registry, folder: Path) -> list[Quantized]:
    """The tiny model under every quantizer that has what it needs, where a model source can load a folder.

    Args:
        folder: an existing folder that stays as long as these are used.
    """
    entries = [entry for entry in registry.entries("quantizer") if not entry.missing()]
    if not entries:
        return []
    source = _source(registry, tiny_folder(folder / "model"))
    return [_quantized(entry, source, registry, folder) for entry in entries] if source else []


def check(trial: Trial, label: str, quantized: Sequence[Quantized]) -> Iterator[CheckResult]:
    """One check a quantizer."""
    for base in quantized:
        yield run_check("over-quantized-base", f"{label} over {base.name}", lambda base=base: works(trial, base))  # type: ignore[misc]


def works(trial: Trial, base: Quantized) -> str:
    """Train over the quantized base; it stays as it is, and what was trained comes back from its files."""
    import torch

    handle = base.handle()
    tensors = {**dict(handle.model.named_parameters()), **dict(handle.model.named_buffers())}
    plain = {name: trial.batch[name] for name in ("input_ids", "attention_mask")}
    own = tiny.logits(handle.model, plain)
    try:
        adapted = trial.fresh(handle)
    except RecipeError as error:
        return f"refused: {error.what}"
    trained = adapted.trainable()
    moved = {id(parameter) for parameter in trained.values()}
    before = {name: (t, t.detach().clone()) for name, t in tensors.items() if id(t) not in moved}
    first = tiny.loss(adapted.model, trial.batch)
    adapted.begin(STEPS)
    trial.train(adapted, tiny.make_optimizer(adapted), 1, STEPS)
    last = tiny.loss(adapted.model, trial.batch)
    if not last < first:
        raise Failed(f"the loss went from {first:.4f} to {last:.4f} in {STEPS} steps on one batch")
    changed = [name for name, (now, then) in before.items() if not torch.equal(now.detach(), then)]
    if changed:
        raise Failed(f"{listed(changed)} of the quantized base changed during training")
    with tempfile.TemporaryDirectory(dir=trial.folder) as folder:
        adapted.save(Path(folder))
        loaded = trial.fresh(base.handle(), seed=tiny.SEED + 1)
        loaded.load(Path(folder))
    ours, theirs = (tiny.logits(a.model, trial.batch) for a in (adapted, loaded))
    if not torch.equal(ours, theirs):
        raise Failed(f"after saving and loading, the logits differ by {tiny.distance(theirs, ours):.1e} (relative)")
    try:
        with adapted.disabled() as model:
            apart = tiny.distance(tiny.logits(model, trial.batch), own)
    except TunesmithError:
        return f"loss {first:.4f} to {last:.4f}, base unchanged, saved and loaded bit-equal"
    if not apart <= SAME:
        raise Failed(f"disabled, its logits differ from the quantized base's by {apart:.1e} (relative)")
    return f"loss {first:.4f} to {last:.4f}, base unchanged, saved and loaded bit-equal, disabled equals the base"


# --- helpers --------------------------------------------------------------------------------------
def _source(registry: Registry, place: Path) -> Use | None:
    """The model source that is surest of a folder."""
    best: Entry | None = None
    sureness = 0
    for entry in registry.entries("model"):
        assert isinstance(entry.component, Model)
        claim = entry.component.claims(str(place), place.parent)
        if claim > sureness and not entry.missing():
            best, sureness = entry, claim
    return _use(best, {"source": str(place)}) if best else None


def _use(entry: Entry, table: dict[str, Any]) -> Use:
    component = entry.component
    settings = check_settings(component.settings, table, Recipe({}), (component.kind,))
    return Use(component, entry.qualified, entry.plugin.distribution, entry.plugin.version, settings)


def _quantized(entry: Entry, source: Use, registry: Registry, folder: Path) -> Quantized:
    line = Line("causal-lm", folder, source, _use(entry, {}))
    context = Context(seed=tiny.SEED, device="cpu", folder=folder, stage_folder=folder, cache=folder)
    # loaded each time: a copied module of a quantization library need not be whole
    return Quantized(entry.component.name, lambda: load_base(line, registry, context))
