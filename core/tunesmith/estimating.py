"""Asking the components of a stage for their parts of an estimate, and whether the whole fits this machine."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from tunesmith.context import Context
from tunesmith.errors import MemoryExhausted
from tunesmith.estimate import HELD_BACK, Estimate, Lengths, Packed, Sizes, Speed, Trained, Work, combined
from tunesmith.folder import parsed_file
from tunesmith.guard import guarded, wrong_type
from tunesmith.memory import available, expected, keeps_freed
from tunesmith.plan import Plan, RolePlan, StagePlan, Use
from tunesmith.probe import Probe
from tunesmith.speed import known
from tunesmith.store import sha256_file, write_json

Record = TypeVar("Record")
MARGIN = 0.15  # by which an estimate may be wrong
LENGTHS = "lengths"  # folder in the cache: tokens of the rows of a data set, by content


@dataclass(frozen=True)
class Unknown:
    """Why there is no estimate: which component does not say its part."""

    reason: str


def estimate(
    plan: Plan,
    stage: StagePlan,
    context: Context,
    *,
    lengths: Lengths | None = None,
    found: Probe | None = None,
    speed: Speed | None = None,
) -> Estimate | Unknown:
    """What a stage will take, as far as its components tell.

    Args:
        lengths: the rows as training sees them; None takes what an earlier probe kept, else assumes.
        found: the parameters as a probe counted them, where an adapter does not say what it trains.
        speed: of this machine; None takes what was kept.
    """
    role = stage.main_role
    line = _line(plan, role)
    if line is None or line.model is None:
        return Unknown("the model of this stage is made by an earlier one")
    sizes = asked(line.model, Sizes, line.model.settings, context, role.role.head)
    if sizes is None:
        return Unknown(f"model {line.model.component.name!r} cannot tell its sizes before it is fetched and built")
    notes = [sizes.note] if sizes.note else []
    packed = None
    if line.quantizer:
        packed = asked(line.quantizer, Packed, line.quantizer.settings, sizes)
        if packed is None:
            return Unknown(f"quantizer {line.quantizer.component.name!r} does not say what it holds")
    trained = asked(line.adapter, Trained, line.adapter.settings, sizes) if line.adapter else None
    if trained is None and found is not None:
        trained = counted(found, sizes)
        notes.append(f"adapter {found.adapter!r} does not say what it keeps for the backward pass: that is left out")
    if trained is None:
        return Unknown("the adapter does not say what it trains before the model is built: --probe counts it")
    lengths = lengths or kept_lengths(stage, context)
    if lengths is None:
        limit = getattr(stage.trainer.settings, "max_length", None)
        lengths = Lengths.of_nothing(limit)
        notes.append(f"every row is taken to be {lengths.tokens[0]} tokens: `--probe` reads the rows")
    work = asked(stage.trainer, Work, stage.trainer.settings, sizes, trained, lengths)
    if work is None:
        return Unknown(f"trainer {stage.trainer.component.name!r} does not say what it computes")
    speed = speed or known(context.cache, sizes, plan.run.device, plan.run.threads, quantizer_of(line))
    if speed is None:
        notes.append("time, and memory of the process itself, are not known before `--probe` has measured this machine")
    if len(stage.roles) > 1:
        notes.append("the other models of this stage are not in the estimate")
    on_cpu = speed is not None and speed.process > 0
    held_back = HELD_BACK if on_cpu and keeps_freed() else 0.0
    data = lengths.held if on_cpu else 0
    return combined(sizes, packed, trained, work, speed, notes, assumed=lengths.assumed, held_back=held_back, data=data)


def counted(found: Probe, sizes: Sizes) -> Trained:
    """What a probe counted, as an adapter would tell it."""
    modules = {group.name: group.moves for group in found.groups if group.moves}
    added = max(0, found.total - sizes.parameters)
    return Trained(modules=modules, added=added, base_weights=found.moves > added)


def quantizer_of(role: RolePlan) -> str:
    """The name of the quantizer, or nothing."""
    return role.quantizer.component.name if role.quantizer else ""


def _line(plan: Plan, role: RolePlan) -> RolePlan | None:
    """The role whose model, quantizer and adapter count: its own, or that of the stage that it goes on with."""
    if role.stage is None:
        return role
    earlier = _line(plan, plan.stage(role.stage).main_role)
    if earlier is None:
        return None
    return replace(earlier, quantizer=None, adapter=role.adapter) if role.carry == "merge" else earlier


def asked(use: Use, kind: type[Record], *arguments: Any) -> Record | None:
    """What a component tells; None where it does not, or cannot."""
    if not use.component.estimate:
        return None
    with guarded(use):
        told = use.component.resolve("estimate")(*arguments)
    if told is not None and not isinstance(told, kind):
        raise wrong_type(use, f"{kind.__name__} or None", told)
    return told


# --- rows -----------------------------------------------------------------------------------------
def _place(stage: StagePlan, context: Context) -> Path:
    """Where the lengths of a stage's rows are kept: by what decides them."""
    model, settings = stage.main_role.model, stage.trainer.settings
    described = {
        "data": stage.data.describe(),
        "model": model.describe() if model else stage.main_role.stage,
        "trainer": stage.trainer.component.name,
        "max_length": getattr(settings, "max_length", None),
        "files": [
            sha256_file(path)
            for value in vars(stage.data.settings).values()
            if isinstance(value, Path) and (path := context.path(value)).is_file()
        ],
    }
    digest = hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode()).hexdigest()
    return context.cache / LENGTHS / f"{digest[:32]}.json"


def kept_lengths(stage: StagePlan, context: Context) -> Lengths | None:
    """The lengths that an earlier probe of the same rows kept."""
    found = parsed_file(_place(stage, context))
    tokens, supervised = found.get("tokens"), found.get("supervised")
    return Lengths(tokens=tokens, supervised=supervised, held=found.get("held", 0)) if tokens and supervised else None


def keep_lengths(stage: StagePlan, context: Context, lengths: Lengths) -> None:
    """Keep the lengths of a stage's rows for later plans."""
    place = _place(stage, context)
    place.parent.mkdir(parents=True, exist_ok=True)
    write_json(place, {"tokens": list(lengths.tokens), "supervised": list(lengths.supervised), "held": lengths.held})


# --- whether it fits ------------------------------------------------------------------------------
def check_fits(made: Estimate, stage: StagePlan, plan: Plan, margin: float = MARGIN) -> str | None:
    """Refuse a stage that cannot fit, and give a sentence where it may not.

    What is needed whatever the rows are is refused when it is more than there is; the whole estimate is refused when it
    exceeds that by the margin, and named when it comes near.

    Args:
        margin: the share by which an estimate may be wrong.

    Raises:
        MemoryExhausted: it names the settings to change.
    """
    wanted = plan.run.memory_check
    bound = available(expected(plan.run.device)) if wanted != "off" else None
    if bound is None:
        return None
    there, of = bound
    needed = made.floor if made.assumed else made.peak
    when = "whatever the rows are" if made.assumed else f"at the peak ({made.phase})"
    told = f"about {_gib(needed)} are needed {when}, and {_gib(there)} are {of}"
    if needed > there * (1 + margin) and wanted == "refuse":
        raise MemoryExhausted(
            f"this cannot fit: {told}",
            details=[f"{name}: {_gib(size)}" for name, size in made.parts.items() if size],
            fix=_advice(made, stage),
        )
    return f"{told}: it may not fit. {_advice(made, stage)}" if needed > there * (1 - margin) else None


def _advice(made: Estimate, stage: StagePlan) -> str:
    """The settings that shrink the largest part."""
    parts = made.parts
    rows = 0 if made.assumed else parts["activations"] + parts["logits"] + parts["held back"]
    moving = parts["gradients"] + parts["optimizer"] + parts["checkpoint"]
    settings = stage.trainer.settings
    advice = []
    if rows >= max(moving, parts["weights"]):
        batch = getattr(settings, "batch_size", None)
        if batch and batch > 1:
            advice.append("lower [trainer] batch_size and raise gradient_accumulation_steps to keep their product")
        advice.append("lower max_length")
        if getattr(settings, "activation_checkpointing", True) is False:
            advice.append("set activation_checkpointing = true")
        if parts["held back"]:
            advice.append("start the command with MALLOC_MMAP_THRESHOLD_=262144 before it, which lets freed memory go")
    if moving >= max(rows, parts["weights"]):
        advice.append('train less: an adapter such as "lora" in [adapter], or a lower rank')
    if parts["weights"] >= max(rows, moving) or not advice:
        advice.append("hold the base in fewer bits with a [quantizer]" if not stage.main_role.quantizer else "")
        advice.append("choose a smaller model")
    told = "; ".join(item for item in advice if item)
    return f'{told[0].upper()}{told[1:]}. [run] memory_check = "off" goes on all the same.'


def _gib(size: float) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
